"""What a run has at hand when it performs a command, without the run around it: the subject of several rows."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import anyio

from fsmrt.actors.attempt import Attempt
from fsmrt.actors.base import start
from fsmrt.actors.recorder import Recorder
from fsmrt.actors.tools import Tools
from fsmrt.contract.rules import Guard
from fsmrt.errors import EvidenceWriteFailed
from fsmrt.evidence.folder import RunFolder
from fsmrt.evidence.record import RunRecord
from fsmrt.evidence.redaction import KEY_BYTES, Redactor
from fsmrt.evidence.scratch import ScratchKeeper
from fsmrt.evidence.treewatch import TreeWatch
from fsmrt.limits import NEVER
from fsmrt.messages import Command, LayerRecords, Note, PlannedCommand, StageLimits, StageOrder, StageReport
from fsmrt.repository import Repository
from fsmrt.sandbox.base import TERM_GRACE
from fsmrt.sandbox.host import HostSandbox

RUN_NUMBERS = count(1)
SECRET = "correct-Horse_battery+staple/9"
ATTEMPT = "full_attempt_01"


class Discard:
    """A sink for output nobody keeps."""

    def write(self, data: bytes) -> None:
        pass


def redactor() -> Redactor:
    """One that knows a secret, as nearly every run does."""
    return Redactor({"API_TOKEN": SECRET}, key=bytes(KEY_BYTES))


@asynccontextmanager
async def host_sandbox(grace: float = TERM_GRACE) -> AsyncIterator[HostSandbox]:
    """A sandbox of the host, started, and closed at the end."""
    sandbox = HostSandbox(f"bench-{os.getpid()}-{next(RUN_NUMBERS)}", grace=grace)
    await sandbox.start()
    try:
        yield sandbox
    finally:
        await sandbox.close()


def command(number: int, argv: tuple[str, ...], env: Mapping[str, str], cwd: str = "/") -> Command:
    return Command(cmd_id=f"c{number:04d}", argv=argv, cwd=cwd, env=env, stage="tests")


class Workbench:
    """Everything one command needs. Each `perform` is a try: rules, limit, containment, output, record."""

    def __init__(self, tools: Tools, workdir: Path, text: str) -> None:
        self._tools, self._workdir, self._text = tools, workdir, text
        self._order = StageOrder(
            stage="tests",
            attempt=ATTEMPT,
            folder=ATTEMPT,
            scratch=f"{ATTEMPT}/scratch",
            commands=(),
            env=dict(os.environ),
            limits=StageLimits(try_seconds=600.0, try_limit="timeout_seconds"),
        )
        self._numbers = count(1)

    async def perform(self) -> None:
        planned = PlannedCommand(text=self._text, name=f"tests_cmd{next(self._numbers):02d}")
        report = await Attempt(self._tools, self._order, planned, 1).run(self._workdir, NEVER)
        if not report.ok:
            raise RuntimeError(f"{self._text}: {report.rc} {report.stderr.tail}")

    async def settled(self) -> None:
        """Until everything so far has been recorded."""
        await self._tools.recorder.ask(Note(type="stage_finished", data={}))


@asynccontextmanager
async def workbench(place: Path, text: str) -> AsyncIterator[Workbench]:
    """The hands of a run in `place` that performs `text`, with the recorder serving them."""
    run_id = f"run-{next(RUN_NUMBERS)}"
    repository = Repository(place)
    with RunFolder.create(place / "artifacts", run_id) as folder:
        folder.makedirs(ATTEMPT)
        record = RunRecord(folder, redactor(), {"run_id": run_id})
        async with host_sandbox() as sandbox, anyio.create_task_group() as group:
            address = start(group, _recorder(record, sandbox))
            send, receive = anyio.create_memory_object_stream[StageReport](1)
            tools = Tools(
                run_id=run_id,
                sandbox=sandbox,
                repository=repository,
                folder=folder,
                redactor=record.redactor,
                guard=Guard("system", (), (), repo_root=str(place)),
                tree=TreeWatch(place, _unobserved, enabled=False),
                scratch=ScratchKeeper(folder, record.redactor),
                recorder=address,
                reports=send,
                now=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"),
            )
            with send, receive:
                yield Workbench(tools, place, text)
            address.close()
        record.close()


def _recorder(record: RunRecord, sandbox: HostSandbox) -> Recorder:
    return Recorder(
        record.folder,
        record.events,
        record.layers,
        record.redactor,
        kind=sandbox.facts.kind,
        isolation=sandbox.facts.isolation,
        alarm=_disk_trouble,
    )


def _disk_trouble(error: EvidenceWriteFailed) -> None:
    raise error


async def _unobserved(records: LayerRecords) -> None:
    raise RuntimeError(f"nobody asked for a look at the tree: {records.layer}")
