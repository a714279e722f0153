"""The flow every stage shares: rules, sandbox, limits, record, outputs. Stages differ in a few answers only.

    order -> older outputs moved aside -> for each command: rules -> sandbox -> record -> (again)
          -> background children ended -> outputs checked -> report

A stage reports exactly once, however it ends: when it is cancelled in the middle, what it knew so far is
recorded and reported on the way out.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

from anyio import to_thread

from ..errors import EvidenceWriteFailed, SandboxLost
from ..limits import NEVER, Deadline, cleanup, deadline_in
from ..messages import (
    Checkpoint,
    KeptFile,
    LastTry,
    Note,
    PlannedCommand,
    StageOrder,
    StageReport,
    TryReport,
)
from ..plan import PREPARATION
from ..repository import PathProblem
from ..states import StageSignal
from ..verdict import Reason
from .attempt import Attempt
from .progress import Progress
from .tools import Tools, pretty


class StageActor:
    """Performs one stage. The subclasses say what is particular about theirs."""

    name = "stage"

    def __init__(self, tools: Tools) -> None:
        self.tools = tools

    async def handle(self, order: StageOrder) -> None:
        """Perform the order; the report goes to the supervisor's own channel, on cancellation too."""
        progress = Progress(order)
        try:
            await self._perform(order, progress)
        except SandboxLost as lost:
            progress.fail(Reason.SANDBOX_LOST, str(lost))
        except EvidenceWriteFailed as error:
            progress.fail(reason_for(error), str(error))
        finally:
            progress.stop_if_unfinished()
            try:
                with cleanup():
                    await self._look_after(order, progress)
                    await self._record_end(order, progress)
            finally:
                # There is always room: the supervisor made it for every stage of the pass.
                self.tools.reports.send_nowait(progress.report(order))

    async def prepare(self, order: StageOrder, progress: Progress) -> None:
        """What this stage does before its first command."""

    async def check(self, order: StageOrder, progress: Progress) -> None:
        """Whether what this stage has produced is acceptable; says no through `progress.fail`."""

    async def conclude(self, order: StageOrder, progress: Progress) -> None:
        """What this stage does after its last command, passed or not."""

    def goes_on_after(self, failure: TryReport) -> bool:
        """Whether a command that failed lets the next one run, and the stage pass."""
        return False

    async def _perform(self, order: StageOrder, progress: Progress) -> None:
        progress.advance(StageSignal.STARTED)
        with cleanup():  # whatever has an end in the record has a beginning there
            await self.tools.tell(
                Note(type="stage_started", data={"stage": order.stage, "attempt": order.attempt})
            )
        self.tools.folder.makedirs(order.folder)
        self.tools.scratch.open(order.scratch)
        await self.tools.tree.before_stage()
        await self._move_aside(order, progress)
        await self.prepare(order, progress)
        if progress.running:
            await self._run_commands(order, progress)
        await self._end_children(order, progress)
        if progress.running:
            progress.advance(StageSignal.COMMANDS_PASSED)
            await self.check(order, progress)
        await self.conclude(order, progress)
        if progress.checking:
            progress.advance(StageSignal.OUTPUTS_ACCEPTED)
        await self._look_after(order, progress)

    async def _look_after(self, order: StageOrder, progress: Progress) -> None:
        """What the stage has left behind, looked at once; also what one left that was cut off."""
        if not progress.looked_after:
            progress.looked_after = True
            await self.tools.tree.after_stage(order.stage)
            await self._seal_scratch(order, progress)

    async def _move_aside(self, order: StageOrder, progress: Progress) -> None:
        if order.expects:
            to = self.tools.folder.path / order.attempt / "stale" / order.stage
            try:
                moved = await to_thread.run_sync(self.tools.repository.move_aside, order.expects, to)
            except OSError as error:
                text = (
                    f"what an earlier run left could not be moved aside: {error.filename}: {error.strerror}"
                )
                progress.fail(Reason.STAGE_FAILED, text)
            else:
                progress.moved_aside = tuple(moved)

    async def _run_commands(self, order: StageOrder, progress: Progress) -> None:
        workdir = self.tools.repository.workdir(order.workdir)
        if isinstance(workdir, PathProblem):
            await self._refuse_workdir(order, progress, workdir)
            return
        deadline = _stage_deadline(order)
        for planned in order.commands:
            await self._run_command(order, planned, workdir, deadline, progress)
            if not progress.running:
                return

    async def _refuse_workdir(self, order: StageOrder, progress: Progress, problem: PathProblem) -> None:
        planned = PlannedCommand(text=f"resolve_workdir {order.workdir}", name=f"{order.stage}_workdir_error")
        report = await Attempt(self.tools, order, planned, 1).synthetic(problem.message)
        progress.add(planned, report)
        progress.fail(Reason.WORKDIR_INVALID, problem.message)

    async def _run_command(
        self,
        order: StageOrder,
        planned: PlannedCommand,
        workdir: Path,
        deadline: Deadline,
        progress: Progress,
    ) -> None:
        for number in range(1, planned.retries + 2):
            attempt = Attempt(self.tools, order, planned, number)
            try:
                report = await attempt.run(workdir, deadline)
            finally:
                if attempt.report is not None:
                    progress.add(planned, attempt.report)
            if report.ok:
                return
            if not _worth_another_try(report):
                break
        if not self.goes_on_after(report):
            progress.fail(*_why_failed(report))

    async def _end_children(self, order: StageOrder, progress: Progress) -> None:
        progress.ended_children = tuple(await self.tools.sandbox.end_children(order.stage))
        leaked = [str(one.pid) for one in progress.ended_children if one.how == "leaked"]
        if leaked:  # whoever still lives could write the very file that is read next
            text = f"processes of {order.stage} could not be ended: {', '.join(leaked)}"
            progress.fail(Reason.SANDBOX_LOST, text)

    async def _record_end(self, order: StageOrder, progress: Progress) -> None:
        if progress.last_prefix is not None:
            last = LastTry(folder=order.folder, stage=order.stage, prefix=progress.last_prefix)
            await self.tools.tell(last)
        await self.tools.tell(_summary_file(order, progress))
        await self.tools.tell(Note(type="stage_finished", data=_finished(progress.report(order))))
        await self.tools.tell(Checkpoint())

    async def _seal_scratch(self, order: StageOrder, progress: Progress) -> None:
        if self.tools.scratch.is_empty(order.scratch):
            return
        seal = await to_thread.run_sync(self.tools.scratch.seal, order.scratch, abandon_on_cancel=True)
        progress.warnings += [f"secret_in_scratch: {order.scratch}/{path}" for path in seal.secret_in_scratch]
        path = f"{order.folder}/{order.stage}_scratch.json"
        await self.tools.tell(KeptFile(path=path, data=pretty(seal)))


async def skip(tools: Tools, order: StageOrder) -> StageReport:
    """Record a stage that has nothing to do; nobody needs an actor for that."""
    progress = Progress(order)
    progress.advance(StageSignal.NOTHING_TO_DO)
    if order.stage not in PREPARATION:  # without a file of its own, preparation is not even considered
        with suppress(EvidenceWriteFailed):  # the recorder, who writes there next, meets it too and tells
            tools.folder.makedirs(order.folder)
        await tools.tell(_summary_file(order, progress))
    return progress.report(order)


def _summary_file(order: StageOrder, progress: Progress) -> KeptFile:
    return KeptFile(path=f"{order.folder}/{order.stage}_summary.json", data=pretty(progress.summary()))


def reason_for(error: EvidenceWriteFailed) -> Reason:
    """A full disk is the machine's fault; any other failure to write is taken for ours."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Reason.DISK_FULL if full else Reason.RUNNER_ERROR


def _stage_deadline(order: StageOrder) -> Deadline:
    limits = order.limits
    run = NEVER if limits.run_deadline is None else Deadline(limits.run_deadline, "run_timeout")
    return run.earliest(deadline_in(limits.stage_seconds, limits.stage_limit))


def _worth_another_try(report: TryReport) -> bool:
    if report.refused or report.cancelled or report.status_source == "synthetic":
        return False
    return not report.timed_out or report.limit in Attempt.TRY_LIMITS


def _why_failed(report: TryReport) -> tuple[Reason, str]:
    command = report.cmd if len(report.cmd) <= 200 else f"{report.cmd[:200]}..."
    if report.refused:
        return Reason.COMMAND_REFUSED, f"{report.refused}: {command}"
    if report.oom:
        return Reason.OUT_OF_MEMORY, f"the memory limit ended: {command}"
    if report.limit == "run_timeout":
        return Reason.RUN_TIMEOUT, f"the run's time was over during: {command}"
    if report.timed_out:
        return Reason.STAGE_TIMEOUT, f"{report.limit} after {report.seconds:.1f}s: {command}"
    if report.output_limit:
        return Reason.STAGE_FAILED, f"printed more than output_bytes allows: {command}"
    if report.signal is not None:
        return Reason.STAGE_FAILED, f"ended by signal {report.signal}: {command}"
    return Reason.STAGE_FAILED, f"exit code {report.rc}: {command}"


def _finished(report: StageReport) -> dict[str, object]:
    return {
        "stage": report.stage,
        "attempt": report.attempt,
        "ok": report.ok,
        "reason": report.reason,
        "duration_ms": round(report.seconds * 1000, 3),
    }
