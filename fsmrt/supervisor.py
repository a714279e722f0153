"""One pass of a run: performs what `plan` decides, over actors, under one deadline, and always closes.

    forward part   a group with the stage actors; a stop, the run's deadline or a caller's cancellation ends
                   the running command and then the group
    closing part   dump, teardown, the end of everything that was started; shielded and bounded, in a group of
                   its own, whatever became of the forward part

The recorder outlives both. A defect in an actor ends its group, is recorded, and the closing part follows.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream

from .actors.actions import ActionsActor
from .actors.auth import AuthActor
from .actors.base import Address, start
from .actors.benchmark import BenchmarkActor
from .actors.bootstrap import BootstrapActor
from .actors.deploy import DeployHealthActor, DeploySetupActor, DeployTeardownActor
from .actors.evaluation import EvaluationActor
from .actors.kubectl import KubectlDumpActor
from .actors.rollout import RolloutActor
from .actors.stage import StageActor, skip
from .actors.tests import TestsActor
from .actors.tools import Tools
from .control import Control
from .limits import CLOSE_GRACE
from .messages import Ended, StageOrder, StageReport
from .orders import OrderBook
from .plan import RunStage, RunView, next_step, teardown_considered, teardown_wanted
from .states import RUN, RunPhase, RunSignal, advance
from .verdict import Reason

ACTORS: dict[str, Callable[[Tools], StageActor]] = {
    "actions": ActionsActor,
    "bootstrap": BootstrapActor,
    "auth": AuthActor,
    "tests": TestsActor,
    "deploy_setup": DeploySetupActor,
    "deploy_health": DeployHealthActor,
    "rollout": RolloutActor,
    "evaluation": EvaluationActor,
    "benchmark": BenchmarkActor,
    "kubectl": KubectlDumpActor,
    "deploy_teardown": DeployTeardownActor,
}
"""Every stage there is, and who performs it."""


class Supervisor:
    """Performs one pass. Afterwards its attributes say what happened."""

    def __init__(
        self,
        book: OrderBook,
        tools: Tools,
        reports: MemoryObjectReceiveStream[StageReport],
        control: Control,
        stages: Sequence[str],
        deadline: float | None,
        *,
        before_stage: Callable[[StageOrder], Awaitable[None]],
    ) -> None:
        self._book = book
        self._tools = tools
        self._inbox = reports
        self._control = control
        self._pending = tuple(stages)
        self._deadline = deadline
        self._before_stage = before_stage
        self.phase = RunPhase.OPENING
        self.reports: list[StageReport] = []
        self.closing_reports: list[StageReport] = []
        self.ended: list[Ended] = []
        self.defect: str | None = None
        """The traceback of a defect of ours, if one ended the run."""
        self.interrupted = True
        """Whether the forward part was cancelled from outside, or never began."""

    async def perform(self) -> None:
        """Run the pass to its end. Raises nothing but a cancellation, after the closing part."""
        try:
            await self._forward()
            self.interrupted = False
        finally:
            await self._close()

    async def _forward(self) -> None:
        bound = anyio.CancelScope(deadline=self._backstop)
        self._control.attach(bound.cancel, self._tools.sandbox.kill_now)
        self._advance(RunSignal.OPENED)
        try:
            with bound:
                async with anyio.create_task_group() as group:
                    await self._perform_steps(Staff(group, self._tools))
        except Exception:
            # The actors' group wraps a defect in an exception group. It must not stop the closing part.
            self.defect = traceback.format_exc()
        self._drain(self.reports)
        if bound.cancelled_caught and self._control.reason is None:
            self._control.stop(Reason.RUN_TIMEOUT, "the run's time was over")

    @property
    def _backstop(self) -> float:
        """Commands obey the run's deadline themselves; this ends whatever else might outlast it."""
        return float("inf") if self._deadline is None else self._deadline + CLOSE_GRACE

    async def _perform_steps(self, staff: Staff) -> None:
        with staff:
            while isinstance(step := next_step(self._view()), RunStage):
                self._pending = self._pending[1:]
                order = self._book.order(step.stage, self.reports)
                self.reports.append(await self._perform_stage(staff, order))

    def _view(self) -> RunView:
        return RunView(
            pending=self._pending,
            failed=any(not report.ok for report in self.reports),
            stopped=self._control.reason is not None,
        )

    async def _perform_stage(self, staff: Staff, order: StageOrder) -> StageReport:
        if not order.due:
            return await skip(self._tools, order)
        await self._before_stage(order)
        await staff.actor(order.stage).tell(order)
        return await self._inbox.receive()

    def _drain(self, into: list[StageReport]) -> None:
        """Reports of stages that were cut off, sent while nobody could receive them."""
        while True:
            try:
                into.append(self._inbox.receive_nowait())
            except (anyio.WouldBlock, anyio.EndOfStream):
                return

    async def _close(self) -> None:
        self._drain(self.reports)
        self._advance(RunSignal.STAGES_DONE if self._passed else RunSignal.STOPPED)
        dump = self._book.kubectl_dump(self.reports)
        # Commands obey limits of their own; these bounds end whatever else might outlast them.
        bound = self._book.teardown_seconds + _seconds_of(dump) + CLOSE_GRACE
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + bound + 2 * CLOSE_GRACE):
            try:
                await self._tear_down(dump, bound)
            finally:
                await self._end_everything()
        self._advance(RunSignal.CLOSED)

    @property
    def _passed(self) -> bool:
        clean = self.defect is None and not self.interrupted and self._control.reason is None
        return clean and all(report.ok for report in self.reports)

    async def _tear_down(self, dump: StageOrder | None, bound: float) -> None:
        if self._control.hurried or not teardown_considered(self.reports):
            return
        scope = anyio.CancelScope(deadline=anyio.current_time() + bound)
        self._control.attach(lambda: None, self._in_a_hurry(scope))
        with scope:
            if dump is not None:
                await self._perform_closing(lambda: dump)
            if teardown_wanted(self._book.teardown_policy, passed=self._passed):
                await self._perform_closing(partial(self._book.teardown, self.reports))
        self._drain(self.closing_reports)

    def _in_a_hurry(self, scope: anyio.CancelScope) -> Callable[[], None]:
        def hurry() -> None:
            scope.cancel()
            self._tools.sandbox.kill_now()

        return hurry

    async def _perform_closing(self, order: Callable[[], StageOrder]) -> None:
        """One stage in a group of its own: a defect in one does not keep the next from running."""
        try:
            async with anyio.create_task_group() as group:
                with Staff(group, self._tools) as staff:
                    self.closing_reports.append(await self._perform_stage(staff, order()))
        except Exception:
            self.defect = self.defect or traceback.format_exc()

    async def _end_everything(self) -> None:
        self.ended += await self._tools.sandbox.close(leave_running=self.leaves_running)

    @property
    def leaves_running(self) -> bool:
        """Whether what was deployed outlives the run, because the contract never wants it torn down."""
        return self._book.teardown_policy == "never" and not self._control.hurried

    def _advance(self, signal: RunSignal) -> None:
        self.phase = advance(RUN, self.phase, signal)


class Staff:
    """The stage actors of one part of a run, started when they are first needed."""

    def __init__(self, group: TaskGroup, tools: Tools) -> None:
        self._group = group
        self._tools = tools
        self._addresses: dict[str, Address[StageOrder, Any]] = {}

    def actor(self, stage: str) -> Address[StageOrder, Any]:
        if stage not in self._addresses:
            self._addresses[stage] = start(self._group, ACTORS[stage](self._tools), mailbox=1)
        return self._addresses[stage]

    def __enter__(self) -> Staff:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """No more orders: the group can end."""
        for address in self._addresses.values():
            address.close()


def _seconds_of(dump: StageOrder | None) -> float:
    return sum(planned.seconds or 0.0 for planned in dump.commands) if dump is not None else 0.0
