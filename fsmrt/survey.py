"""What the target is before anything of it runs, and whether that still stands later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .contract.environment import missing_variable_hint, missing_variables
from .contract.rules import Guard
from .contract_files import ACTIONS, Contract, FrozenContract, contract_paths, freeze, script_texts
from .messages import StageReport, Target
from .orders import STAGES
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

        Files that belong to it only since then count. Actions are performed once and moved away, which is no
        change.
        """
        paths = contract_paths(self._repository, self._contract, self._guard)
        now = freeze(self._repository, sorted({*self._paths, *paths}))
        return [path for path in now.changed_since(self.frozen) if path != ACTIONS], now.hash

    def hints(
        self, reports: Sequence[StageReport], environ: Mapping[str, str], passed: Iterable[str]
    ) -> list[str]:
        """Variables that failed stages and their scripts mention, the caller has, and commands do not get."""
        prepared = {name for report in reports for name in report.env or ()}
        known = prepared.union(passed)
        return [
            missing_variable_hint(name)
            for report in reports
            if not report.ok and not report.stopped
            for name in missing_variables(
                self._text(report), environ, known.union(self._set_for(report.stage))
            )
        ]

    def _text(self, report: StageReport) -> str:
        """What a stage executed: its commands and their scripts."""
        commands = [command.cmd for command in report.commands]
        pipeline = self._contract.accepted()
        return "\n".join(
            [*commands, *script_texts(self._repository, pipeline, report.stage, commands, self._guard)]
        )

    def _set_for(self, stage: str) -> Iterable[str]:
        spec = STAGES.get(stage)
        return spec.section(self._contract.accepted()).env if spec is not None else ()
