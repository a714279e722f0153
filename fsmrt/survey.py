"""What the target is before anything of it runs, and whether that still stands later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .contract.environment import missing_variable_hint, missing_variables
from .contract.rules import Guard
from .contract_files import ACTIONS, Contract, FrozenContract, contract_paths, freeze, script_texts
from .messages import StageReport, Target
from .repository import GitState, Repository


class Survey:
    """One look at the target, taken in a worker thread; afterwards a comparison with it."""

    def __init__(self, repository: Repository, contract: Contract, guard: Guard) -> None:
        self._repository = repository
        self._contract = contract
        self._guard = guard
        self._git: GitState = repository.git_state()
        self._paths = contract_paths(repository, contract, guard)
        self.frozen: FrozenContract = freeze(repository, self._paths)

    @property
    def target(self) -> Target:
        """What is run, for the result."""
        return Target(
            kind="path",
            path=str(self._repository.root),
            commit=self._git.commit,
            dirty=self._git.dirty,
        )

    def changed(self) -> tuple[list[str], str]:
        """Files of the contract that are not as they were, and the hash of the contract as it is now.

        Actions are performed once and moved away, which is no change.
        """
        now = freeze(self._repository, self._paths)
        return [path for path in now.changed_since(self.frozen) if path != ACTIONS], now.hash

    def hints(
        self, reports: Iterable[StageReport], environ: Mapping[str, str], passed: Iterable[str]
    ) -> list[str]:
        """Variables that failed stages and their scripts mention, the caller has, and commands do not get."""
        known = frozenset(passed)
        return [
            missing_variable_hint(name)
            for text in self._texts_of_failed(reports)
            for name in missing_variables(text, environ, known)
        ]

    def _texts_of_failed(self, reports: Iterable[StageReport]) -> Iterator[str]:
        pipeline = self._contract.accepted()
        for report in reports:
            if not report.ok and not report.stopped:
                commands = [command.cmd for command in report.commands]
                scripts = script_texts(self._repository, pipeline, report.stage, commands, self._guard)
                yield "\n".join([*commands, *scripts])
