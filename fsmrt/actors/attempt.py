"""One try of one command: rules, sandbox, limits, record. Its report exists however it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from anyio import to_thread

from ..contract.scripts import AuditResult, audit
from ..errors import EvidenceWriteFailed, SpawnFailed
from ..evidence.spool import Spool
from ..limits import Deadline, cleanup, deadline_in, until
from ..messages import (
    Command,
    CommandFinished,
    CommandStarted,
    Decision,
    Exit,
    PlannedCommand,
    Refusal,
    StageOrder,
    StreamReport,
    TryReport,
)
from ..sandbox.base import Running, WaitOutcome, shell_argv
from ..sandbox.walk import COMMAND_VARIABLE
from .tools import Tools

_REFUSED, _CANCELLED, _TIMED_OUT, _SYNTHETIC, _NOT_STARTED = 126, 130, 124, 2, 127


class Attempt:
    """A try that runs at most once. `report` is None until it is over."""

    TRY_LIMITS: ClassVar = frozenset({"timeout_seconds", "max_cmd_seconds"})
    """Limits of one try: the next try has its own. The others end the stage or the run."""

    def __init__(self, tools: Tools, order: StageOrder, planned: PlannedCommand, number: int) -> None:
        self.tools, self.order, self.planned, self.number = tools, order, planned, number
        self.report: TryReport | None = None
        self.path = f"{order.folder}/{planned.name}_try{number:02d}"
        self._cmd_id = tools.next_cmd_id()
        self._decision: Decision | None = None
        self._trouble: EvidenceWriteFailed | None = None
        """Output that could not be kept. The end of the command is recorded first."""

    async def run(self, workdir: Path, deadline: Deadline) -> TryReport:
        """Perform the try and return its report; raises `SandboxLost`, and cancellation, after recording."""
        if self.planned.fault is not None:
            return await self.synthetic(self.planned.fault)
        if self.planned.write is not None:
            return await self._write_file()
        refusal = await self._refusal(workdir)
        if refusal is not None:
            return await self.synthetic(refusal, rc=_REFUSED, refused=refusal)
        return await self._execute(workdir, deadline)

    async def synthetic(self, message: str, *, rc: int = _SYNTHETIC, refused: str | None = None) -> TryReport:
        """A result without a process: nothing was started, and stderr says why."""
        out, err = self._spools()
        self._say(err, f"{message}\n" if message else "")
        self.report = self._build(out, err, rc=rc, refused=refused, status_source="synthetic")
        await self.tools.tell(Refusal(order=self.order, report=self.report, decision=self._decision))
        if self._trouble is not None:
            raise self._trouble
        return self.report

    async def _write_file(self) -> TryReport:
        wanted = self.planned.write
        assert wanted is not None
        problem = await to_thread.run_sync(self.tools.repository.write_file, wanted.path, wanted.content)
        return await self.synthetic(problem.message if problem else "", rc=_SYNTHETIC if problem else 0)

    async def _refusal(self, workdir: Path) -> str | None:
        if not self.order.guarded:
            return None
        refusal = self.tools.guard.refusal(self.planned.text)
        if refusal is None and self.tools.names_scripts(self.planned.text, workdir):
            refusal = (await to_thread.run_sync(self._audit, workdir)).refusal
        self._decision = Decision(allowed=refusal is None, rule=refusal or "allowed", reason=refusal or "")
        return refusal

    def _audit(self, workdir: Path) -> AuditResult:
        return audit(
            self.planned.text, workdir, guard=self.tools.guard, read=self.tools.repository.read_script
        )

    async def _execute(self, workdir: Path, deadline: Deadline) -> TryReport:
        out, err = self._spools()
        end = _End(self.tools.now())
        try:
            async with self.tools.sandbox.command(self._command(workdir), out, err) as running:
                end.running = running
                with cleanup():  # it runs: a cancellation may not come between that and its record
                    await self._tell_started(workdir)
                await end.wait(running, deadline.earliest(self._own_deadline()))
        except SpawnFailed as error:
            self._say(err, f"{error}\n")
            end.not_started = True
        finally:
            if end.ended_by is not None:
                self._say(err, f"\n[fsmrt] {end.ended_by}\n")
            self.report = self._finished(out, err, end)
            with cleanup():
                await self._tell_finished(end)
        if self._trouble is not None:
            raise self._trouble
        return self.report

    def _say(self, err: Spool, text: str) -> None:
        """A word of ours behind what the command printed. A full disk may not keep its end from the record."""
        try:
            err.write(text.encode())
        except EvidenceWriteFailed as error:
            self._trouble = error

    def _own_deadline(self) -> Deadline:
        limits = self.order.limits
        if self.planned.seconds is not None and (
            limits.try_seconds is None or self.planned.seconds < limits.try_seconds
        ):
            return deadline_in(self.planned.seconds, "timeout_seconds")
        return deadline_in(limits.try_seconds, limits.try_limit)

    def _command(self, workdir: Path) -> Command:
        return Command(
            cmd_id=self._cmd_id,
            argv=self.planned.argv or shell_argv(self.planned.text),
            cwd=str(workdir),
            env={
                **self.order.env,
                **self.planned.env,
                COMMAND_VARIABLE: f"{self.tools.run_id}/{self._cmd_id}",
            },
            stage=self.order.stage,
            children=self.planned.children or self.order.children,
            output_bytes=self.order.limits.output_bytes,
            terminal=self.order.terminal,
        )

    def _spools(self) -> tuple[Spool, Spool]:
        return self.tools.spool(f"{self.path}_stdout.txt"), self.tools.spool(f"{self.path}_stderr.txt")

    async def _tell_started(self, workdir: Path) -> None:
        await self.tools.tell(
            CommandStarted(
                cmd_id=self._cmd_id,
                order=self.order,
                planned=self.planned,
                try_number=self.number,
                path=self.path,
                cwd=str(workdir),
                decision=self._decision,
            )
        )

    async def _tell_finished(self, end: _End) -> None:
        assert self.report is not None
        if end.running is None:
            await self.tools.tell(Refusal(order=self.order, report=self.report, decision=self._decision))
            return
        await self.tools.tell(
            CommandFinished(
                stage=self.order.stage,
                report=self.report,
                exit=end.exit,
                pid=end.running.pid,
            )
        )

    def _finished(self, out: Spool, err: Spool, end: _End) -> TryReport:
        exit_ = end.exit
        return self._build(
            out,
            err,
            rc=end.rc,
            signal=exit_.signal if exit_ is not None and not end.forced else None,
            timed_out=end.ended_by not in (None, "output_bytes"),
            output_limit=end.ended_by == "output_bytes",
            cancelled=end.cancelled,
            oom=exit_ is not None and exit_.oom_killed,
            drain_cut=exit_ is not None and exit_.drain_cut,
            limit=end.ended_by,
            status_source=exit_.status_source if exit_ is not None else "synthetic",
            started_at=end.started_at,
            seconds=exit_.seconds if exit_ is not None else 0.0,
        )

    def _build(self, out: Spool, err: Spool, **facts: Any) -> TryReport:
        return TryReport(
            cmd_id=self._cmd_id,
            cmd=self.planned.text,
            path=self.path,
            try_number=self.number,
            stdout=self._closed(out),
            stderr=self._closed(err),
            **facts,
        )

    def _closed(self, spool: Spool) -> StreamReport:
        try:
            facts = spool.close()
        except EvidenceWriteFailed as error:
            self._trouble = error
            return StreamReport(path=spool.rel, bytes=spool.bytes_total, truncated=True)
        return StreamReport(
            path=facts.path,
            bytes=facts.bytes_total,
            truncated=spool.truncated,
            sha256=facts.sha256,
            bytes_head=facts.bytes_head,
            bytes_tail=facts.bytes_tail,
            bytes_omitted=facts.bytes_omitted,
            head=spool.head_text,
            tail=spool.tail_text,
        )


class _End:
    """How a try came to its end. `ended_by` names the limit; nothing here can make it a success."""

    def __init__(self, started_at: str) -> None:
        self.started_at = started_at
        self.running: Running | None = None
        self.ended_by: str | None = None
        self.completed = False
        self.not_started = False

    async def wait(self, running: Running, limit: Deadline) -> None:
        outcome: WaitOutcome | None = None
        with until(limit) as scope:
            outcome = await running.wait()
        if scope.cancelled_caught:
            self.ended_by = limit.limit
        elif outcome == "output_limit":
            self.ended_by = "output_bytes"
        else:
            self.completed = True
            return
        await running.end()

    @property
    def exit(self) -> Exit | None:
        return self.running.exit if self.running is not None else None

    @property
    def cancelled(self) -> bool:
        return not (self.completed or self.not_started) and self.ended_by is None

    @property
    def forced(self) -> bool:
        """Ended by us: whatever status arrived says nothing about the command."""
        return self.cancelled or self.ended_by is not None

    @property
    def rc(self) -> int:
        if self.not_started:
            return _NOT_STARTED
        if self.cancelled:
            return _CANCELLED
        if self.ended_by is not None:
            return _TIMED_OUT
        return self.exit.rc if self.exit is not None else _NOT_STARTED
