"""Reading `.aider_fsm/bootstrap.yml`, which more hands have written than `pipeline.yml`, in more forms."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType
from yaml.nodes import MappingNode, Node, SequenceNode

from .fields import COMMON, command, integer, is_text, version
from .model import Bootstrap
from .reading import Notes, Reading, read_document
from .sections import Entries, Fields, is_mapping, known_entries, read_fields
from .yaml_nodes import found

_COMMAND_KEYS = ("cmd", "run", "command")
_SENTENCE = "bootstrap field cmds must be a list of non-empty strings"


def read_bootstrap(
    data: bytes, file: str = ".aider_fsm/bootstrap.yml", *, repo_root: str | None = None
) -> Reading[Bootstrap]:
    """Everything `bootstrap.yml` says, or everything wrong with it; never raises for what is in `data`.

    `env` stays as written. With `repo_root` an absolute `workdir` inside it is accepted.
    """
    return read_document(data, Notes(file, "bootstrap", repo_root), _bootstrap)


def _bootstrap(notes: Notes, root: Node) -> Bootstrap:
    if not is_mapping(notes, root, "$", null_allowed=False):
        return Bootstrap()
    given, path = _unwrapped(notes, known_entries(notes, root, "$", {**_FIELDS.rules, "boot": None}))
    _remark_aliases(notes, given, path)
    values = read_fields(notes, given, path, _FIELDS)
    values.pop("version", None)
    return Bootstrap(**values)


def _unwrapped(notes: Notes, given: Entries) -> tuple[Entries, str]:
    """The fields, out of `boot` if that is the only place they are in, and the path to them."""
    boot = given.pop("boot", None)
    if boot is None:
        return given, "$"
    key, node = boot
    if given.keys() - {"version"}:
        message = "boot is ignored, because there are other fields at the top level"
        code = "bootstrap.boot_mapping_ignored_due_to_top_level_fields"
        notes.warning(code, key, "$.boot", message, "move the fields of boot to the top level")
        return given, "$"
    if not is_mapping(notes, node, "$.boot"):
        return given, "$"
    message = "the fields of boot are read as if they were at the top level"
    notes.warning(
        "bootstrap.boot_mapping_unwrapped", key, "$.boot", message, "remove boot and one indentation"
    )
    if "version" in given:
        version(notes, given["version"][1], "$.version")
    return known_entries(notes, node, "$.boot", _FIELDS.rules), "$.boot"


def _remark_aliases(notes: Notes, given: Entries, path: str) -> None:
    for alias, name in _FIELDS.aliases.items():
        if alias in given:
            code = f"bootstrap.{alias}_alias_used"
            notes.warning(code, given[alias][0], f"{path}.{alias}", f"{alias} means {name}", f"write {name}")


def _commands(notes: Notes, node: Node, path: str) -> tuple[str, ...] | UnsetType:
    """A list of texts and mappings, or one of either by itself."""
    if isinstance(node, SequenceNode):
        return _command_list(notes, node, path)
    if isinstance(node, MappingNode):
        return _single_mapping(notes, node, path)
    if is_text(node) and node.value.strip():
        message = "one text is taken as a list of one command"
        notes.warning("bootstrap.cmds_coerced_from_string", node, path, message, "begin the line with `- `")
        text = command(notes, node, path, _SENTENCE)
        return UNSET if text is UNSET else (text,)
    notes.error("not_a_string_list", node, path, f"{_SENTENCE}, found {found(node)}")
    return UNSET


def _single_mapping(notes: Notes, node: MappingNode, path: str) -> tuple[str, ...] | UnsetType:
    text, _ = _mapped_command(notes, node, path)
    if text is UNSET:
        return UNSET
    message = "one mapping is taken as a list of one command"
    notes.warning(
        "bootstrap.cmds_mapping_coerced_to_single_cmd", node, path, message, "write a list of texts"
    )
    return (text,)


def _command_list(notes: Notes, node: SequenceNode, path: str) -> tuple[str, ...]:
    texts = (_list_command(notes, item, path, index) for index, item in enumerate(node.value))
    return tuple(text for text in texts if text is not UNSET)


def _list_command(notes: Notes, node: Node, path: str, index: int) -> str | UnsetType:
    place = f"{path}[{index}]"
    if not isinstance(node, MappingNode):
        return command(notes, node, place, _SENTENCE)
    text, key = _mapped_command(notes, node, place)
    if text is not UNSET:
        code = f"bootstrap.cmds[{index}]_mapping_coerced_via_{key}"
        notes.warning(code, node, place, f"the text of {key} is taken as the command", "write the text alone")
    return text


def _mapped_command(notes: Notes, node: MappingNode, path: str) -> tuple[str | UnsetType, str]:
    """The command of `{cmd|run|command: ...}` and the key it came from."""
    if not is_mapping(notes, node, path):
        return UNSET, ""
    given = known_entries(notes, node, path, dict.fromkeys(_COMMAND_KEYS))
    for key in _COMMAND_KEYS:
        if key in given:
            return command(notes, given[key][1], f"{path}.{key}", _SENTENCE), key
    message = f"must have one of the keys {', '.join(_COMMAND_KEYS)} ({_SENTENCE})"
    notes.error("not_a_string_list", node, path, message, "quote the command: `: ` makes a mapping of it")
    return UNSET, ""


_TIMEOUT = integer(1)

_RULES: dict[str, Any] = {
    **COMMON.rules,
    "version": version,
    "cmds": _commands,
    "steps": _commands,
    "cwd": COMMON.rules["workdir"],
    "timeout_seconds": _TIMEOUT,
    "timeout": _TIMEOUT,
    "retry": COMMON.rules["retries"],
}

_FIELDS = Fields(
    _RULES, {"steps": "cmds", "cwd": "workdir", "timeout": "timeout_seconds", "retry": "retries"}
)
