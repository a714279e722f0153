"""The hands a stage actor works with. One set a run; an actor owns none of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from anyio.streams.memory import MemoryObjectSendStream

from ..contract.rules import Guard
from ..contract.scripts import scripts_named
from ..evidence.folder import RunFolder
from ..evidence.redaction import Redactor
from ..evidence.scratch import ScratchKeeper
from ..evidence.spool import Spool, StreamBudget
from ..evidence.treewatch import TreeWatch
from ..messages import Record, StageReport
from ..repository import Repository
from ..sandbox.base import Sandbox
from .base import Address


class Tools:
    """Everything a stage needs to be performed, and the addresses its answers go to."""

    def __init__(
        self,
        *,
        run_id: str,
        sandbox: Sandbox,
        repository: Repository,
        folder: RunFolder,
        redactor: Redactor,
        guard: Guard,
        tree: TreeWatch,
        scratch: ScratchKeeper,
        recorder: Address[Record, None],
        reports: MemoryObjectSendStream[StageReport],
        now: Callable[[], str],
    ) -> None:
        self.run_id = run_id
        self.sandbox = sandbox
        self.repository = repository
        self.folder = folder
        self.redactor = redactor
        self.guard = guard
        self.tree = tree
        self.scratch = scratch
        self.recorder = recorder
        self.reports = reports
        self.now = now
        self._budget = StreamBudget()
        self._names_scripts: dict[tuple[str, Path], bool] = {}
        self._numbers = itertools.count(1)

    def next_cmd_id(self) -> str:
        """`c0001`, `c0002`, ... in the order commands start."""
        return f"c{next(self._numbers):04d}"

    async def tell(self, record: Record) -> None:
        await self.recorder.tell(record)

    def names_scripts(self, text: str, workdir: Path) -> bool:
        """Whether a command executes files of the repository, so that these have to be read first."""
        key = (text, workdir)
        if key not in self._names_scripts:
            found = scripts_named(text, workdir, repo_root=self.guard.repo_root)
            self._names_scripts[key] = bool(found)
        return self._names_scripts[key]

    def spool(self, path: str) -> Spool:
        """A new file for one stream of one try."""
        return Spool(self.folder, path, self.redactor.stream(path), budget=self._budget)


def pretty(value: Any) -> bytes:
    """JSON for people: indented, no ASCII escaping, a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
