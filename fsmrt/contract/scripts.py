"""The script audit: which files of the repository a command executes, and what the rules say about them.

Finding the files needs no disk; reading them is a hand's work and is injected. A script is followed through
the scripts which it executes itself, as far as their names can be told without running anything.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Final, Literal

import msgspec

from .invocations import SHELLS, Call, Survey, place, source_of, survey
from .rules import Guard

MAX_SCRIPT_BYTES: Final = 2_000_000
MAX_DEPTH: Final = 3
MAX_FILES: Final = 50

Language = Literal["shell", "python", "unknown"]


class ScriptRef(msgspec.Struct, frozen=True):
    """A file that a text executes. `path` is absolute and lexical; None if only a shell could tell."""

    path: str | None
    language: Language
    """As the call has it; `unknown` for a program, whose first line decides."""
    written: str
    cwd: str | None
    """Where it would run."""


class FileText(msgspec.Struct, frozen=True):
    """What reading a script gave: `size` is the file's, `data` may stop at `MAX_SCRIPT_BYTES`."""

    data: bytes
    size: int


Read = Callable[[str], FileText | None]
"""Reads a file by its absolute path.

Returns None for what is no regular file or lies, links resolved, outside the repository. Raises `OSError` for
a file that is there and cannot be read.
"""


class AuditResult(msgspec.Struct, frozen=True):
    refusal: str | None
    """The reason in the contract's words; None if nothing speaks against the scripts."""
    scripts: tuple[str, ...]
    """The files that were read, in the order of execution."""
    remarks: tuple[str, ...]


def scripts_named(command: str, cwd: PurePath, *, repo_root: str | None = None) -> list[ScriptRef]:
    """The files which the text of `command`, run in `cwd`, executes. Empty means: nothing to audit.

    With `repo_root`, `$AIDER_FSM_REPO_ROOT` is understood and programs outside of it are left out.
    """
    known = {"PWD": str(cwd)}
    if repo_root is not None:
        known["AIDER_FSM_REPO_ROOT"] = repo_root
    return list(_references(survey(command, str(cwd), known), repo_root))


def audit(command: str, cwd: PurePath, *, guard: Guard, read: Read) -> AuditResult:
    """Reads the scripts behind `command` and stops at the first that is refused."""
    trail = _Trail(guard, read)
    refusal = trail.follow(scripts_named(command, cwd, repo_root=guard.repo_root), depth=1)
    return AuditResult(refusal, tuple(trail.scripts), tuple(dict.fromkeys(trail.remarks)))


def _references(found: Survey, repo_root: str | None) -> Iterator[ScriptRef]:
    for call in found.calls:
        reference = _program(call)
        if reference is not None and (repo_root is None or _is_within(reference.path, repo_root)):
            yield reference
        source = source_of(call)
        if source is not None and source.kind == "file":
            path = place(source.word, call.cwd)
            if path is None or repo_root is None or _is_within(path, repo_root):
                yield ScriptRef(path, source.language, source.word.text, call.cwd)


def _program(call: Call) -> ScriptRef | None:
    """The program itself, where it is named by a path that can be told."""
    word = call.words[0]
    path = place(word, call.cwd) if "/" in word.text else None
    return None if path is None else ScriptRef(path, "unknown", word.text, call.cwd)


def _is_within(path: str | None, folder: str) -> bool:
    return path is not None and path.startswith(folder.rstrip("/") + "/")


class _Trail:
    """One audit under way."""

    def __init__(self, guard: Guard, read: Read) -> None:
        self.guard, self.read = guard, read
        self.seen: set[str] = set()
        self.scripts: list[str] = []
        self.remarks: list[str] = []

    def follow(self, references: list[ScriptRef], depth: int) -> str | None:
        for reference in references:
            refusal = self.visit(reference, depth)
            if refusal is not None:
                return refusal
        return None

    def visit(self, reference: ScriptRef, depth: int) -> str | None:
        path = reference.path
        if path is None:
            self.remarks.append(f"script not audited, its name depends on the shell: {reference.written}")
        elif path not in self.seen and self.within_bounds(path, depth):
            self.seen.add(path)
            return self.check(path, reference, depth)
        return None

    def within_bounds(self, path: str, depth: int) -> bool:
        if depth > MAX_DEPTH:
            self.remarks.append(f"script not audited, more than {MAX_DEPTH} scripts deep: {path}")
        elif len(self.seen) >= MAX_FILES:
            self.remarks.append(f"script not audited, more than {MAX_FILES} scripts: {path}")
        return depth <= MAX_DEPTH and len(self.seen) < MAX_FILES

    def check(self, path: str, reference: ScriptRef, depth: int) -> str | None:
        try:
            file = self.read(path)
        except OSError as error:
            return f"blocked_by_script_audit_read_error: {path}: {error.strerror or error}"
        if file is None:
            self.remarks.append(f"script not audited, no such file in the repository: {path}")
            return None
        if reference.language == "unknown" and is_binary(file.data):
            return None
        self.scripts.append(path)
        if file.size > MAX_SCRIPT_BYTES:
            return f"blocked_by_script_audit_too_large: {file.size} bytes"
        return self.check_text(path, file.data, reference, depth)

    def check_text(self, path: str, data: bytes, reference: ScriptRef, depth: int) -> str | None:
        text = data.decode("utf-8", "replace")
        if not _is_shell(reference.language, text):
            return _refusal(self.guard.refused_in_script(text))
        root = self.guard.repo_root
        found = survey(text, reference.cwd, {"0": path, "AIDER_FSM_REPO_ROOT": root})
        refusal = _refusal(self.guard.refused_in_script(text, found))
        return refusal or self.follow(list(_references(found, root)), depth + 1)


def _refusal(rule: str | None) -> str | None:
    return None if rule is None else f"blocked_by_script_denylist: {rule}"


def is_binary(data: bytes) -> bool:
    """Whether a file is a program rather than a script: no shell text has a NUL near its beginning."""
    return b"\0" in data[:8192]


def _is_shell(language: Language, text: str) -> bool:
    """A program without a `#!` line is run by the shell that failed to execute it."""
    if language != "unknown" or not text.startswith("#!"):
        return language != "python"
    words = text[2:].partition("\n")[0].split()
    return any(posixpath.basename(word) in SHELLS for word in words[:3])
