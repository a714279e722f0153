"""Reading one contract file: everything that is wrong with it, and its value if nothing is fatal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec
from yaml.nodes import Node

from ..errors import ContractError
from .problems import Level, Problem
from .yaml_nodes import Unreadable, compose

T = TypeVar("T")


class Reading(msgspec.Struct, Generic[T], frozen=True):
    """What reading a file gave: `value` is None exactly if a problem of level `error` was found."""

    value: T | None
    problems: tuple[Problem, ...] = ()
    """In file order."""

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that stop everything."""
        return tuple(problem for problem in self.problems if problem.level == "error")

    def raise_for_errors(self) -> T:
        """The value; raises `ContractError` with every problem, remarks included, if it has none."""
        if self.value is None:
            raise ContractError(self.problems)
        return self.value


class Notes:
    """Collects what is wrong with one file while it is walked.

    `subject` begins the sentences: `pipeline`, `bootstrap` or `actions`. `repo_root` is the repository's
    absolute path where the caller knows it; without it every absolute path counts as outside.
    """

    def __init__(self, file: str, subject: str, repo_root: str | None = None) -> None:
        self.file, self.subject, self.repo_root = file, subject, repo_root
        self._problems: list[Problem] = []

    def add(
        self, level: Level, code: str, node: Node, path: str, message: str, suggestion: str | None = None
    ) -> None:
        mark = node.start_mark
        self._problems.append(
            Problem(
                level=level,
                code=code,
                file=self.file,
                line=mark.line + 1,
                column=mark.column + 1,
                path=path,
                message=message,
                suggestion=suggestion,
            )
        )

    def error(self, code: str, node: Node, path: str, message: str, suggestion: str | None = None) -> None:
        self.add("error", code, node, path, message, suggestion)

    def strict(self, code: str, node: Node, path: str, message: str, suggestion: str | None = None) -> None:
        self.add("strict", code, node, path, message, suggestion)

    def warning(self, code: str, node: Node, path: str, message: str, suggestion: str | None = None) -> None:
        self.add("warning", code, node, path, message, suggestion)

    @property
    def failed(self) -> bool:
        """Whether anything found so far is an error."""
        return any(problem.level == "error" for problem in self._problems)

    def label(self, path: str) -> str:
        """`$.tests.env` as the sentences call it: `pipeline.tests.env`."""
        return self.subject + path.removeprefix("$")

    def reading(self, value: T) -> Reading[T]:
        problems = tuple(sorted(self._problems, key=lambda problem: (problem.line, problem.column)))
        return Reading(None if self.failed else value, problems)


def read_document(data: bytes, notes: Notes, build: Callable[[Notes, Node], T]) -> Reading[T]:
    """Compose the file and let `build` walk its root; a file that cannot be read is reported alone."""
    try:
        root = compose(data)
    except Unreadable as reason:
        return _unreadable(notes.file, reason)
    if root is None:
        return _unreadable(notes.file, _empty(notes.subject, notes.file))
    return notes.reading(build(notes, root))


def missing(file: str) -> Problem:
    """The problem of a contract file that does not exist. Line and column are 0: there is no place to show."""
    return Problem(
        level="error",
        code="file_missing",
        file=file,
        line=0,
        column=0,
        path="$",
        message=f"the file does not exist (pipeline file is empty: {file})",
        suggestion="run `fsmrt init` to propose a first contract from what the repository shows",
    )


def _empty(subject: str, file: str) -> Unreadable:
    hint = "write at least `version: 1` and one stage with commands, or run `fsmrt init`"
    return Unreadable(
        "file_empty", f"{subject} file is empty: {file}", hint=hint if subject == "pipeline" else None
    )


def _unreadable(file: str, reason: Unreadable) -> Reading[T]:
    problem = Problem(
        level="error",
        code=reason.code,
        file=file,
        line=reason.line,
        column=reason.column,
        path="$",
        message=reason.message,
        suggestion=reason.hint,
    )
    return Reading(None, (problem,))
