"""Which programs a shell text would start, behind every wrapper, and in which folder.

`env X=1 timeout 5 sudo ls` is four calls: of `env`, `timeout`, `sudo` and `ls`, each with its own operands.
`sh -c 'text'`, `eval`, here-documents for a shell and the like are read as shell text again. The folder is
followed through `cd` as far as it can be told without running anything.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal

import msgspec

from .shell import (
    Function,
    Group,
    Part,
    Pipeline,
    Redirection,
    Script,
    Simple,
    Untokenisable,
    Word,
    parse,
    words_of,
)

MAX_NESTED_TEXTS: Final = 5


class Call(msgspec.Struct, frozen=True):
    """One program and its operands. `words[0]` is the program as written, `name` its last path component."""

    name: str
    words: tuple[Word, ...]
    redirections: tuple[Redirection, ...] = ()
    cwd: str | None = None
    """Where it would run; None if that depends on something only a shell knows."""


class Survey(msgspec.Struct):
    """Everything found in one text, in reading order."""

    calls: list[Call] = msgspec.field(default_factory=list)
    pipelines: list[Pipeline] = msgspec.field(default_factory=list)
    """Those of two parts and more."""
    functions: list[Function] = msgspec.field(default_factory=list)
    scripts: list[Script] = msgspec.field(default_factory=list)
    """The text itself and those inside it."""
    unread: list[str] = msgspec.field(default_factory=list)
    """Texts that could not be tokenised, or lie too deep."""


def survey(text: str, cwd: str | None = ".", known: Mapping[str, str] | None = None) -> Survey:
    """Finds every call in `text`, without ever raising. `known` gives the values of some variables.

    `cwd` is where the text starts to run, None if that is not known. The key `0` of `known` is the path of the
    script which `text` is, for `$(dirname "$0")`.
    """
    walk = _Walk(cwd, dict(known or {}))
    walk.text(text)
    return walk.found


# -- options and wrappers


class Options(msgspec.Struct, frozen=True):
    given: tuple[tuple[str, Word | None], ...]
    """Such as `-x` or `--name`, clusters taken apart, each with its value if it takes one."""
    end: int
    """Index of the first operand."""

    def has(self, *names: str) -> bool:
        return any(name in names for name, _ in self.given)

    def value(self, *names: str) -> Word | None:
        return next((value for name, value in self.given if name in names and value is not None), None)


def read_options(
    words: tuple[Word, ...], valued: frozenset[str], start: int = 1, signs: str = "-"
) -> Options:
    """Reads options up to the first operand. `valued` names those which take the next word as their value."""
    given: list[tuple[str, Word | None]] = []
    at = start
    while at < len(words):
        text = words[at].text
        if len(text) < 2 or text[0] not in signs:
            break
        at += 1
        if text == "--":
            break
        taken = _long(text) if text.startswith("--") else _cluster(text, valued)
        name, value = taken[-1]
        if value is None and name in valued and at < len(words):
            taken[-1] = (name, words[at])
            at += 1
        given += taken
    return Options(tuple(given), at)


def _long(text: str) -> list[tuple[str, Word | None]]:
    name, equals, value = text.partition("=")
    return [(name, Word(value) if equals else None)]


def _cluster(text: str, valued: frozenset[str]) -> list[tuple[str, Word | None]]:
    found: list[tuple[str, Word | None]] = []
    for index, letter in enumerate(text[1:], start=2):
        name = text[0] + letter
        if name in valued and text[index:]:
            return [*found, (name, Word(text[index:]))]
        found.append((name, None))
    return found


class _Wrapper(msgspec.Struct, frozen=True):
    """A program whose operands are another program and its operands."""

    valued: frozenset[str] = frozenset()
    operands: int = 0
    """Operands of its own in front of the program."""
    assigns: bool = False
    lookups: frozenset[str] = frozenset()
    """Options with which it only prints."""


def names(text: str) -> frozenset[str]:
    """A set of words, written as one text."""
    return frozenset(text.split())


_WRAPPERS: Final[dict[str, _Wrapper]] = {
    "env": _Wrapper(names("-u --unset -C --chdir -S --split-string"), assigns=True),
    "timeout": _Wrapper(names("-k --kill-after -s --signal"), operands=1),
    "nice": _Wrapper(names("-n --adjustment")),
    "nohup": _Wrapper(),
    "setsid": _Wrapper(),
    "time": _Wrapper(names("-f --format -o --output")),
    "exec": _Wrapper(names("-a")),
    "command": _Wrapper(lookups=names("-v -V")),
    "builtin": _Wrapper(),
    "busybox": _Wrapper(),
    "xargs": _Wrapper(
        names(
            "-a -d -E -I -L -n -P -s --arg-file --delimiter --max-args --max-procs --max-lines --max-chars"
            " --process-slot-var"
        )
    ),
    "sudo": _Wrapper(
        names(
            "-u -g -h -p -C -D -R -r -t -T -U --user --group --host --prompt --close-from --chdir --chroot"
            " --role --type --command-timeout --other-user"
        ),
        assigns=True,
    ),
    "doas": _Wrapper(names("-u -C -a")),
    "pkexec": _Wrapper(names("--user")),
    "stdbuf": _Wrapper(names("-i -o -e --input --output --error")),
    "ionice": _Wrapper(names("-c -n --class --classdata")),
    "flock": _Wrapper(names("-w -E -c --timeout --conflict-exit-code --command"), operands=1),
}
_ASSIGNS: Final = re.compile(r"[A-Za-z_]\w*=", re.ASCII)
_FIND_RUNS: Final = frozenset({"-exec", "-execdir", "-ok", "-okdir"})


def chain(words: tuple[Word, ...]) -> Iterator[tuple[Word, ...]]:
    """`words`, then what is left of them behind each wrapper in turn."""
    while words:
        yield words
        words = _behind(words)


def _behind(words: tuple[Word, ...]) -> tuple[Word, ...]:
    name = program(words)
    if name == "find":
        return _behind_find(words)
    wrapper = _WRAPPERS.get(name)
    if wrapper is None:
        return ()
    options = read_options(words, wrapper.valued)
    if wrapper.lookups and options.has(*wrapper.lookups):
        return ()
    at = options.end
    while wrapper.assigns and at < len(words) and _ASSIGNS.match(words[at].text):
        at += 1
    rest = words[at + wrapper.operands :]
    return () if rest and rest[0].text.startswith("-") else rest


def _behind_find(words: tuple[Word, ...]) -> tuple[Word, ...]:
    for at, word in enumerate(words):
        if word.text in _FIND_RUNS:
            end = next((i for i in range(at, len(words)) if words[i].text in {";", "+"}), len(words))
            return words[at + 1 : end]
    return ()


_PYTHON_VARIABLE: Final = re.compile(r"\$\{?[A-Z_]*PYTHON\b")
_SHELL_VARIABLE: Final = re.compile(r"\$\{?(?:SHELL|BASH)\b")


def program(words: tuple[Word, ...]) -> str:
    """The name of the program: the last component of its path; `$AIDER_FSM_PYTHON` and its like are `python`."""
    word = words[0]
    if word.expands:
        if _PYTHON_VARIABLE.match(word.text):
            return "python"
        if _SHELL_VARIABLE.match(word.text):
            return "sh"
    return word.text.rpartition("/")[2]


# -- interpreters


class Source(msgspec.Struct, frozen=True):
    """Where an interpreter takes its program from."""

    language: Literal["shell", "python"]
    kind: Literal["text", "file", "stdin", "module"]
    word: Word = Word("")


SHELLS: Final = frozenset({"sh", "bash", "dash", "zsh", "ash", "ksh"})
_PYTHON: Final = re.compile(r"(?:python|pypy)[0-9.]*")
_SHELL_VALUED: Final = names("-o +o -O +O --rcfile --init-file")
_PYTHON_VALUED: Final = names("-c -m -W -X --check-hash-based-pycs")
_STDIN: Final = frozenset({"-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"})


def source_of(call: Call) -> Source | None:
    """What an interpreter would execute; None if the call is of no shell, no Python and no `source`."""
    if call.name in SHELLS:
        return _shell_source(call.words)
    if call.name in {".", "source"}:
        return _file_source("shell", call.words[1:])
    if _PYTHON.fullmatch(call.name):
        return _python_source(call.words)
    return None


def _shell_source(words: tuple[Word, ...]) -> Source:
    options = read_options(words, _SHELL_VALUED, signs="-+")
    operands = words[options.end :]
    if options.has("-c"):
        return Source("shell", "text", operands[0] if operands else Word(""))
    return _file_source("shell", () if options.has("-s") else operands)


def _python_source(words: tuple[Word, ...]) -> Source:
    options = read_options(words, _PYTHON_VALUED)
    for name, value in options.given:
        if name in {"-c", "-m"} and value is not None:
            return Source("python", "text" if name == "-c" else "module", value)
    return _file_source("python", words[options.end :])


def _file_source(language: Literal["shell", "python"], operands: tuple[Word, ...]) -> Source:
    if not operands or operands[0].text in _STDIN:
        return Source(language, "stdin")
    return Source(language, "file", operands[0])


def texts_run_by(call: Call) -> Iterator[str]:
    """Shell texts which a call hands to a shell."""
    source = source_of(call)
    if source is not None and source.language == "shell":
        if source.kind == "text":
            yield source.word.text
        elif source.kind == "stdin":
            yield from _fed_to(call)
    elif finder := _TEXT_OPERANDS.get(call.name):
        yield from finder(call.words)


def _fed_to(call: Call) -> Iterator[str]:
    for redirection in call.redirections:
        if redirection.operator.endswith("<<<"):
            yield redirection.target.text
        for body in redirection.body:
            yield body.text


def _joined(words: tuple[Word, ...]) -> Iterator[str]:
    yield " ".join(word.text for word in words[1:])


def _first(words: tuple[Word, ...]) -> Iterator[str]:
    for word in words[1:2]:
        yield word.text


def _after(*names: str) -> Callable[[tuple[Word, ...]], Iterator[str]]:
    def find(words: tuple[Word, ...]) -> Iterator[str]:
        for at, word in enumerate(words[:-1]):
            if word.text in names:
                yield words[at + 1].text

    return find


_TEXT_OPERANDS: Final[dict[str, Callable[[tuple[Word, ...]], Iterator[str]]]] = {
    "eval": _joined,
    "trap": _first,
    "su": _after("-c", "--command"),
    "flock": _after("-c", "--command"),
    "env": _after("-S", "--split-string"),
}


# -- places

_VARIABLE: Final = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)
_OWN_PATH: Final = r"\$\{?(?:0|BASH_SOURCE(?:\[0\])?)\}?"
_OWN_FOLDER: Final = (
    rf'(?:\$\(\s*dirname\s+(?:--\s+)?"?{_OWN_PATH}"?\s*\)|\$\{{(?:0|BASH_SOURCE(?:\[0\])?)%/\*\}})'
)
_OWN_FOLDERS: Final = re.compile(
    rf'\$\(\s*cd\s+(?:-P\s+)?(?:--\s+)?"?{_OWN_FOLDER}(?P<rest>[^"$`\s]*)"?'
    rf"\s*(?:>\s*/dev/null\s*(?:2>&1\s*)?)?&&\s*pwd(?:\s+-P)?\s*\)|{_OWN_FOLDER}"
)


def with_values(word: Word, known: Mapping[str, str]) -> Word:
    """The word with the variables of `known` replaced by their values."""
    if not word.expands or "$" not in word.text:
        return word
    text = word.text
    if own := known.get("0"):
        folder = posixpath.dirname(own) or "."
        text = _OWN_FOLDERS.sub(lambda match: folder + (match["rest"] or ""), text)
    text = _VARIABLE.sub(lambda match: known.get(match[1] or match[2], match[0]), text)
    return Word(text, word.expands, word.scripts)


def place(word: Word, cwd: str | None) -> str | None:
    """The path a word names, by its text alone; None where a shell would have to be asked."""
    if word.expands and (any(mark in word.text for mark in "$`*?[<>") or word.text.startswith("~")):
        return None
    if word.text.startswith("/"):
        return posixpath.normpath("/" + word.text.lstrip("/"))
    return None if cwd is None else posixpath.normpath(posixpath.join(cwd, word.text))


_FOLDER_CHANGES: Final = frozenset({"cd", "pushd", "chdir"})
_EXPORTING: Final = frozenset({"export", "readonly"})
_ASSIGNING: Final = _EXPORTING | {"read", "unset", "local", "declare", "typeset", "mapfile", "getopts"}


def _folder_after(call: Call) -> str | None:
    options = read_options(call.words, frozenset())
    operands = call.words[options.end :]
    if not operands or operands[0].text == "-":
        return None
    return place(operands[0], call.cwd)


# -- the walk


class _Walk:
    """Visits a syntax tree in execution order, with the folder and the variables known so far."""

    def __init__(self, cwd: str | None, known: dict[str, str]) -> None:
        self.found = Survey()
        self.cwd, self.known = cwd, known
        self.unsure: set[str] = set()
        self.depth = self.nested_texts = 0

    def text(self, text: str) -> None:
        if self.nested_texts > MAX_NESTED_TEXTS:
            self.found.unread.append(text)
            return
        try:
            script = parse(text, self.depth)
        except Untokenisable:
            self.found.unread.append(text)
            return
        self.nested_texts += 1
        self.script(script)
        self.nested_texts -= 1

    def script(self, script: Script) -> None:
        self.depth += 1
        self.found.scripts.append(script)
        for pipeline in script:
            self.pipeline(pipeline)
        self.depth -= 1

    def pipeline(self, pipeline: Pipeline) -> None:
        alone = len(pipeline.parts) == 1
        if not alone:
            self.found.pipelines.append(pipeline)
        for part in pipeline.parts:
            if alone and not pipeline.background:
                self.part(part)
            else:
                self.isolated(self.part, part)

    def isolated(self, visit: Callable[[Part], None], part: Part) -> None:
        """Visits what runs in a process of its own: its folder and variables end with it."""
        cwd, known = self.cwd, dict(self.known)
        visit(part)
        self.cwd, self.known = cwd, known

    def part(self, part: Part) -> None:
        self.inner_scripts(part)
        if isinstance(part, Simple):
            self.simple(part)
        elif isinstance(part, Function):
            self.found.functions.append(part)
            self.isolated(self.part, part.body)
        elif part.kind == "subshell":
            self.isolated(self.group, part)
        else:
            self.group(part)

    def group(self, part: Part) -> None:
        if isinstance(part, Group):
            if part.subject:  # the variable of a loop; nothing anybody assigns to, otherwise
                self.doubt(part.subject[0].text)
            self.script(part.body)

    def inner_scripts(self, part: Part) -> None:
        for word in words_of(part):
            for script in word.scripts:
                self.isolated(self.group, Group("subshell", script))

    def simple(self, simple: Simple) -> None:
        if not simple.words:
            self.assign(simple.assignments)
            return
        words = tuple([with_values(word, self.known) for word in simple.words])
        for rest in chain(words):
            self.call(Call(program(rest), rest, simple.redirections, self.cwd))

    def call(self, call: Call) -> None:
        self.found.calls.append(call)
        for word in call.words[1:] if call.name in _ASSIGNING else ():
            if "=" in word.text or call.name not in _EXPORTING:
                self.doubt(word.text.partition("=")[0])
        if call.name in _FOLDER_CHANGES:
            self.change_folder(_folder_after(call))
        for text in texts_run_by(call):
            self.within(text, isolated=call.name not in {"eval", "trap"})

    def change_folder(self, folder: str | None) -> None:
        self.cwd = folder
        if folder is not None and folder.startswith("/"):
            self.known["PWD"] = folder
        else:
            self.known.pop("PWD", None)

    def within(self, text: str, *, isolated: bool) -> None:
        cwd, known = self.cwd, dict(self.known)
        self.depth += 1
        self.text(text)
        self.depth -= 1
        if isolated:
            self.cwd, self.known = cwd, known

    def assign(self, assignments: tuple[tuple[str, Word], ...]) -> None:
        """Remembers a value until the name is assigned again: which of two holds depends on the way taken."""
        for name, word in assignments:
            value = with_values(word, self.known)
            unknown = value.expands and any(mark in value.text for mark in "$`~(")
            if unknown or not value.text or self.known.get(name, value.text) != value.text:
                self.doubt(name)
            elif name not in self.unsure:
                self.known[name] = value.text

    def doubt(self, name: str) -> None:
        self.known.pop(name, None)
        self.unsure.add(name)
