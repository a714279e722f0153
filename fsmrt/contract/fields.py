"""The rules for single values: one function for each type of field a contract has.

A rule gives the value, or `UNSET` where the default stays; what is wrong goes to the notes. What counts as
which type is the same in all three files, so that a reader who knows one table of the reference knows all.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from msgspec import UNSET, UnsetType
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from .environment import FORCED_NAMES
from .problems import Level
from .reading import Notes
from .sections import Fields, Rule, child, entries, is_mapping
from .yaml_nodes import BOOL, FLOAT, INT, NULL, STR, TEXT_TAGS, found, python_value, shortened

MAX_INTEGER = 2**31 - 1
"""The largest number of seconds, tries or processes; what a 32-bit timer or counter still holds."""

_INTEGER_TEXT = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DECIMAL = re.compile(r"0|[1-9][0-9]*", re.ASCII)
"""Most numbers; the others (octal, hexadecimal, base 60, underscores) are left to PyYAML."""

_MAX_DIGITS = 40
_BOOLEANS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def is_text(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag in TEXT_TAGS


def has_nul(notes: Notes, node: Node, path: str, text: str) -> bool:
    """Whether the text has a NUL, which no command, path or variable can carry; a problem if so."""
    if "\0" not in text:
        return False
    notes.error("nul_byte", node, path, f"{notes.label(path)} contains a NUL character", "remove the \\0")
    return True


def read_text(notes: Notes, node: Node, path: str) -> str | UnsetType:
    """A text as written; a number is taken as its text, with a remark."""
    if not is_text(node):
        if node.tag not in (INT, FLOAT):
            notes.error(
                "not_a_string", node, path, f"{notes.label(path)} must be a string, found {found(node)}"
            )
            return UNSET
        note_coerced(
            notes, node, path, f'the text "{shortened(node.value)}"', f'write "{shortened(node.value)}"'
        )
    return UNSET if has_nul(notes, node, path, node.value) else node.value


def note_coerced(notes: Notes, node: Node, path: str, taken_as: str, suggestion: str) -> None:
    notes.warning("coerced_value", node, path, f"{found(node)} is taken as {taken_as}", suggestion)


def string(notes: Notes, node: Node, path: str) -> str | UnsetType:
    """A text without the blanks around it; blank is unset."""
    text = read_text(notes, node, path)
    return UNSET if text is UNSET else text.strip() or UNSET


def boolean(notes: Notes, node: Node, path: str) -> bool | UnsetType:
    """A YAML boolean, 0 or 1, or one of the usual words for them."""
    if isinstance(node, ScalarNode) and (node.tag in (BOOL, INT) or is_text(node)):
        value = _BOOLEANS.get(node.value.strip().lower())
        if value is not None:
            return value
    message = f"{notes.label(path)} must be true or false, found {found(node)}"
    notes.error("not_a_boolean", node, path, message, "write true or false, without quotes")
    return UNSET


def integer(minimum: int, *, zero_unsets: bool = False, maximum: int = MAX_INTEGER) -> Rule:
    """The rule of a whole number. Blank text is unset; so is 0 with `zero_unsets`."""

    def read(notes: Notes, node: Node, path: str) -> int | UnsetType:
        if is_text(node) and not node.value.strip():
            return UNSET
        value = _whole_number(node)
        if value is None:
            _note_not_integer(notes, node, path)
            return UNSET
        if node.tag != INT:
            note_coerced(notes, node, path, f"the number {value}", f"write {value}")
        if value == 0 and zero_unsets:
            return UNSET
        return _in_range(notes, node, path, value, minimum, maximum)

    return read


def _in_range(notes: Notes, node: Node, path: str, value: int, minimum: int, maximum: int) -> int | UnsetType:
    if minimum <= value <= maximum:
        return value
    limit = f"at least {minimum}" if value < minimum else f"at most {maximum}"
    notes.error("out_of_range", node, path, f"{notes.label(path)} must be {limit}, found {found(node)}")
    return UNSET


def _note_not_integer(notes: Notes, node: Node, path: str) -> None:
    message = f"{notes.label(path)} must be an integer, found {found(node)}"
    notes.error("not_an_integer", node, path, message, "write a whole number such as 60")


def _whole_number(node: Node) -> int | None:
    """The integer a number or an integral text stands for; None for a fraction or anything else."""
    if not isinstance(node, ScalarNode) or len(node.value) > _MAX_DIGITS:
        return None
    if node.tag == INT and _DECIMAL.fullmatch(node.value):
        return int(node.value)
    if is_text(node):
        text = node.value.strip()
        return int(text) if _INTEGER_TEXT.fullmatch(text) else None
    value = number_value(node)
    return int(value) if value is not None and value == value // 1 else None


def number_value(node: Node) -> int | float | None:
    """The finite number a YAML number stands for."""
    if node.tag not in (INT, FLOAT) or len(node.value) > _MAX_DIGITS:
        return None
    try:
        value = python_value(node)
    except ValueError:
        return None
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value if isinstance(value, (int, float)) else None


seconds = integer(1, zero_unsets=True)
retries = integer(0)


def version(notes: Notes, node: Node, path: str) -> int | UnsetType:
    """1, also written as 0, text or an integral float."""
    value = _whole_number(node)
    if value not in (0, 1):
        message = f"unsupported {notes.subject} version: {_version_text(node)}"
        notes.error("unsupported_version", node, path, message, "write version: 1")
        return UNSET
    if node.tag != INT:
        note_coerced(notes, node, path, f"the number {value}", "write version: 1")
    return 1


def _version_text(node: Node) -> str:
    return shortened(node.value) if isinstance(node, ScalarNode) else found(node)


def choice(*accepted: str) -> Rule:
    """The rule of a closed set of words, blanks around them and upper case allowed."""

    def read(notes: Notes, node: Node, path: str) -> str | UnsetType:
        text: str | None = node.value.strip().lower() if is_text(node) else None
        if text == "":
            return UNSET
        if text is not None and text in accepted:
            return text
        message = f"{notes.label(path)} must be one of: {', '.join(accepted)}; found {found(node)}"
        notes.error("not_in_choices", node, path, message, f"write one of: {', '.join(accepted)}")
        return UNSET

    return read


def commands(notes: Notes, node: Node, path: str) -> tuple[str, ...] | UnsetType:
    """A list of shell commands, each a text that is not blank."""
    return _command_list(notes, node, path, _old_sentence(notes, path, "a list of non-empty strings"))


def steps(notes: Notes, node: Node, path: str) -> tuple[str, ...] | UnsetType:
    """The list form that `auth` alone has."""
    return _command_list(notes, node, path, f"{notes.label(path)} must be a list of non-empty strings")


def _old_sentence(notes: Notes, path: str, kind: str) -> str:
    return f"{notes.subject} field {path.rpartition('.')[2]} must be {kind}"


def _command_list(notes: Notes, node: Node, path: str, sentence: str) -> tuple[str, ...] | UnsetType:
    if not isinstance(node, SequenceNode):
        hint = "put it in a list: begin the line with `- `" if is_text(node) else None
        notes.error("not_a_string_list", node, path, f"{sentence}, found {found(node)}", hint)
        return UNSET
    texts = (command(notes, item, f"{path}[{index}]", sentence) for index, item in enumerate(node.value))
    return tuple(text for text in texts if text is not UNSET)


def command(notes: Notes, node: Node, path: str, sentence: str) -> str | UnsetType:
    """One command of a list."""
    if is_text(node) and node.value.strip():
        return UNSET if has_nul(notes, node, path, node.value) else node.value
    message = f"must be a non-empty string, found {found(node)} ({sentence})"
    notes.error("not_a_string_list", node, path, message, _quoting(node))
    return UNSET


def _quoting(node: Node) -> str | None:
    """A plain word that YAML takes for something else only needs quotes."""
    if isinstance(node, ScalarNode):
        return f'quote it: "{shortened(node.value)}"' if node.value.strip() else "remove the entry"
    if isinstance(node, MappingNode):
        return "quote the command: a text that contains `: ` is a mapping without quotes"
    return None


def one_command(notes: Notes, node: Node, path: str) -> tuple[str, ...] | UnsetType:
    """The alias of a list of commands: a single text."""
    if is_text(node) and node.value.strip():
        return UNSET if has_nul(notes, node, path, node.value) else (node.value,)
    sentence = _old_sentence(notes, path, "a non-empty string")
    notes.error("not_a_string", node, path, f"{sentence}, found {found(node)}", _quoting(node))
    return UNSET


def strings(notes: Notes, node: Node, path: str) -> tuple[str, ...] | UnsetType:
    """A list of texts; blanks around them are cut and blank ones dropped."""
    return _string_list(notes, node, path, str.strip)


def _string_list(
    notes: Notes, node: Node, path: str, taken: Callable[[str], str]
) -> tuple[str, ...] | UnsetType:
    sentence = f"{notes.label(path)} must be a list of strings"
    if not isinstance(node, SequenceNode):
        notes.error(
            "not_a_string_list", node, path, f"{sentence}, found {found(node)}", "put it in a list: [...]"
        )
        return UNSET
    texts = (_list_text(notes, item, f"{path}[{index}]", sentence) for index, item in enumerate(node.value))
    return tuple(taken(text) for text in texts if text.strip())


def _list_text(notes: Notes, node: Node, path: str, sentence: str) -> str:
    """The text of a list item, empty if there is a problem with it."""
    if not is_text(node):
        message = f"must be a string, found {found(node)} ({sentence})"
        notes.error("not_a_string_list", node, path, message, _quoting(node))
        return ""
    return "" if has_nul(notes, node, path, node.value) else node.value


def patterns(notes: Notes, node: Node, path: str) -> tuple[str, ...] | UnsetType:
    """A list of regular expressions, as written; blank ones are dropped and the others must compile."""
    texts = _string_list(notes, node, path, str)
    if texts is not UNSET:
        for index, item in enumerate(node.value):
            if is_text(item) and item.value.strip():
                _check_pattern(notes, item, f"{path}[{index}]")
    return texts


def _check_pattern(notes: Notes, node: Node, path: str) -> None:
    try:
        re.compile(node.value, re.IGNORECASE)
    except re.error as error:
        place = "" if error.pos is None else f" at position {error.pos}"
        _note_pattern(notes, node, path, f"{error.msg}{place}")
    except (OverflowError, RecursionError, Warning) as error:
        _note_pattern(notes, node, path, str(error))


def _note_pattern(notes: Notes, node: Node, path: str, reason: str) -> None:
    message = f"is not a regular expression: {reason}; found {found(node)}"
    notes.error("invalid_regex", node, path, message, "escape special characters with a backslash")


def path_inside(*, absolute_allowed: bool = False) -> Rule:
    """The rule of a path that must not leave the repository, judged by its text alone."""

    def read(notes: Notes, node: Node, path: str) -> str | UnsetType:
        text = string(notes, node, path)
        if text is UNSET or stays_inside(text, notes.repo_root if absolute_allowed else None):
            return text
        note_outside(notes, node, path, text)
        return UNSET

    return read


def stays_inside(text: str, repo_root: str | None) -> bool:
    """Whether the path stays in the repository; an absolute one can only if `repo_root` is given.

    Symbolic links are not seen here; they are followed and checked again when the path is used.
    """
    if text.startswith("~"):
        return False
    if text.startswith("/"):
        if repo_root is None:
            return False
        return posixpath.commonpath([posixpath.normpath(repo_root), _normal(text)]) == posixpath.normpath(
            repo_root
        )
    return posixpath.normpath(text).split("/", 1)[0] != ".."


def _normal(text: str) -> str:
    return "/" + posixpath.normpath(text).lstrip("/")


def note_outside(notes: Notes, node: Node, path: str, text: str, level: Level = "error") -> None:
    message = f"{notes.label(path)} must be a path inside the repository, found {found(node)}"
    hint = "write it relative to the repository root"
    if text.startswith("~"):
        hint += "; ~ is the home folder of whoever runs this"
    notes.add(level, "path_outside_repo", node, path, message, hint)


def environment(notes: Notes, node: Node, path: str) -> dict[str, str] | UnsetType:
    """Environment variables: names trimmed, blank names dropped, values as Python's `str()` shows them."""
    if not is_mapping(notes, node, path):
        return UNSET
    result: dict[str, str] = {}
    for name, (key, value) in entries(notes, node, path, _variable_name).items():
        place = child(path, name)
        if _name_is_usable(notes, key, place, name):
            text = _variable_text(notes, value, place)
            if text is not UNSET:
                result[name] = text
    return result


def _variable_name(key: ScalarNode) -> str | None:
    if key.tag == STR:
        return key.value.strip() or None
    if key.tag == NULL:
        return None
    try:
        return str(python_value(key)).strip() or None
    except ValueError:
        return key.value.strip() or None


def _name_is_usable(notes: Notes, key: Node, path: str, name: str) -> bool:
    if "=" in name or "\0" in name:
        message = "the name of an environment variable cannot contain `=` or a NUL character"
        notes.error("nul_byte", key, path, message, "write NAME: value")
        return False
    if name in FORCED_NAMES:
        message = f"{name} is set by the runner for every command; this value is never seen"
        notes.strict("env_forced_name", key, path, message, "remove it")
    return True


def _variable_text(notes: Notes, node: Node, path: str) -> str | UnsetType:
    if is_text(node):
        return UNSET if has_nul(notes, node, path, node.value) else node.value
    if node.tag == NULL:
        return ""
    try:
        text = str(python_value(node))
    except ValueError as error:
        notes.error("not_a_string", node, path, f"must be a string, found {found(node)}: {error}", "quote it")
        return UNSET
    _note_variable(notes, node, path, text)
    return UNSET if has_nul(notes, node, path, text) else text


def _note_variable(notes: Notes, node: Node, path: str, text: str) -> None:
    """Remarks on values that are not texts: YAML has read them first, and may have changed them."""
    shown = shortened(text)
    if not isinstance(node, ScalarNode):
        message = f"must be a single value, found {found(node)}; its Python text is used: {shown}"
        notes.strict("env_value_not_scalar", node, path, message, "quote the text you mean")
    elif node.tag == BOOL:
        message = f"{found(node)} becomes the text {text}"
        notes.warning("unquoted_boolean_env", node, path, message, f'write "{text}" or "{node.value}"')
    elif text != node.value:
        note_coerced(notes, node, path, f"the text {shown}", f'write "{shortened(node.value)}" or "{shown}"')


COMMON = Fields(
    {
        "timeout_seconds": seconds,
        "retries": retries,
        "env": environment,
        "workdir": path_inside(absolute_allowed=True),
    }
)
"""What every section with commands may say about them."""


def command_fields(*names: str) -> Fields:
    """Lists of commands with their aliases in the singular, and the common fields."""
    aliases = {name.removesuffix("s"): name for name in names}
    rules: dict[str, Rule] = dict.fromkeys(names, commands)
    return Fields({**rules, **dict.fromkeys(aliases, one_command)}, aliases).joined(COMMON)
