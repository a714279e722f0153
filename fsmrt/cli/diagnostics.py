"""Problems of contract files, drawn for people: the place, the line with a caret under it, and what to write.

pipeline.yml:3:3: error unknown_key: $.tests.timeout_second: there is no such key
  3 |   timeout_second: 900
    |   ^
  help: write timeout_seconds
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..contract.problems import Problem
from ..repository import Repository
from .output import Output, printable
from .quantities import counted

_STYLES = {"error": "red", "strict": "red", "warning": "yellow"}
_LONGEST_LINE = 140


def show(problems: Sequence[Problem], repository: Repository, to: Output) -> None:
    """Draw each of them."""
    sources = _sources(problems, repository)
    shown_root = _as_seen_from_here(repository.root)
    for problem in problems:
        for line in _drawn(problem, sources[problem.file], shown_root, to):
            to.line(line)
        to.line()


def document(problems: Sequence[Problem], *, ok: bool) -> dict[str, Any]:
    """The problems as `fsmrt.problems.v1`."""
    return {"schema": "fsmrt.problems.v1", "ok": ok, "problems": problems}


def tally(problems: Iterable[Problem]) -> str:
    """`2 errors, 1 warning`."""
    levels = ["warning" if problem.level == "warning" else "error" for problem in problems]
    counts = (counted(levels.count(level), level) for level in ("error", "warning") if level in levels)
    return ", ".join(counts)


def _as_seen_from_here(root: Path) -> str:
    """Short where the folder is below the current one; terminals open either."""
    relative = os.path.relpath(root)
    return str(root) if relative.startswith("..") else relative


def _sources(problems: Sequence[Problem], repository: Repository) -> Mapping[str, Sequence[str]]:
    names = {problem.file for problem in problems}
    return {name: repository.contract_bytes(name).decode("utf-8", "replace").splitlines() for name in names}


def _drawn(problem: Problem, source: Sequence[str], root: str, to: Output) -> Iterable[str]:
    level = "error" if problem.level == "strict" else problem.level
    place = os.path.normpath(os.path.join(root, problem.file))
    if problem.line:
        place += f":{problem.line}:{problem.column}"
    title = to.paint(f"{level} {problem.code}:", _STYLES[problem.level], "bold")
    path = to.paint(printable(problem.path), "dim")
    yield f"{to.paint(place, 'bold')}: {title} {path}: {printable(problem.message)}"
    if 0 < problem.line <= len(source):
        yield from _excerpt(problem, source[problem.line - 1], to)
    if problem.suggestion:
        yield f"  {to.paint('help:', 'cyan')} {printable(problem.suggestion)}"


def _excerpt(problem: Problem, line: str, to: Output) -> Iterable[str]:
    number = str(problem.line)
    shown, before = printable(line[:_LONGEST_LINE]), printable(line[: problem.column - 1])
    yield f"  {to.paint(f'{number} |', 'dim')} {shown}"
    if len(before) <= _LONGEST_LINE:
        margin = to.paint(f"{' ' * len(number)} |", "dim")
        yield f"  {margin} {' ' * len(before)}{to.paint('^', _STYLES[problem.level], 'bold')}"
