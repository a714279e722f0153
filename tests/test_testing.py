"""The fake that is shipped: what only it can show, above all time. What it shares with real ones is in sandbox/."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
from trio.testing import MockClock

from fsmrt.errors import SandboxLost, SpawnFailed
from fsmrt.messages import Command, RunResult
from fsmrt.request import prepare
from fsmrt.result import code_of
from fsmrt.sandbox.base import shell_argv
from fsmrt.session import perform
from fsmrt.settings import Settings
from fsmrt.testing import FakeCommand, FakeSandbox

HOUR = 3600.0


class Collected:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


def ordered(text: str, **more: Any) -> Command:
    return Command(cmd_id="c0001", argv=shell_argv(text), cwd="/", env={}, stage="tests", **more)


def virtually(step: Callable[[], Any]) -> float:
    """Perform it on a clock that jumps over every wait; how many seconds it took by that clock."""

    async def timed() -> float:
        begun = trio.current_time()
        await step()
        return trio.current_time() - begun

    return trio.run(timed, clock=MockClock(autojump_threshold=0))


def test_an_hour_costs_nothing() -> None:
    async def step() -> None:
        box = FakeSandbox({"make": FakeCommand(takes=HOUR, rc=3)})
        await box.start()
        async with box.command(ordered("make"), Collected(), Collected()) as running:
            assert await running.wait() == "exited"
        assert running.exit is not None
        assert (running.exit.code, running.exit.seconds) == (3, HOUR)

    assert virtually(step) == HOUR


def test_a_command_prints_when_it_is_said_to() -> None:
    async def step() -> None:
        box = FakeSandbox({"make": FakeCommand(takes=HOUR, stdout=b"late", output_after=60)})
        await box.start()
        for patience, seen in ((59, b""), (61, b"late")):
            out = Collected()
            async with box.command(ordered("make"), out, Collected()) as running:
                with anyio.move_on_after(patience):
                    await running.wait()
            assert out.data == seen
        assert box.terminated == ["make", "make"]
        assert box.killed == []

    assert virtually(step) == 120


def test_the_grace_is_waited_for_the_deaf_and_no_longer_than_they_live() -> None:
    async def step() -> None:
        script = {"deaf": FakeCommand(takes=HOUR, ignores_term=True), "slow": FakeCommand(takes=4)}
        box = FakeSandbox(script | {"slow": FakeCommand(takes=4, ignores_term=True)}, grace=5)
        await box.start()
        for text in script:
            async with box.command(ordered(text), Collected(), Collected()) as running:
                await running.end()
        assert box.killed == ["deaf"]
        assert box.alive == 0

    assert virtually(step) == 5 + 4


def test_children_die_at_their_own_time() -> None:
    async def step() -> None:
        box = FakeSandbox({"serve": FakeCommand(leaves=(10, 60, HOUR))})
        await box.start()
        async with box.command(ordered("serve"), Collected(), Collected()) as running:
            await running.wait()
        await anyio.sleep(30)
        assert box.alive == 2
        assert [one.age_seconds for one in await box.close()] == [30, 30]

    assert virtually(step) == 30


def test_a_script_may_decide_by_the_command() -> None:
    async def step() -> None:
        box = FakeSandbox({"make": lambda command: FakeCommand(rc=len(box.ran))})
        await box.start()
        codes = []
        for _ in range(3):
            async with box.command(ordered("make"), Collected(), Collected()) as running:
                await running.wait()
            codes.append(running.exit.code if running.exit else None)
        assert codes == [0, 1, 2]

    virtually(step)


def test_a_place_that_cannot_be_or_is_lost() -> None:
    async def step() -> None:
        with pytest.raises(SandboxLost, match="no room"):
            await FakeSandbox(start_error="no room").start()
        box = FakeSandbox(
            {"lost": FakeCommand(takes=2, lost=True), "gone": FakeCommand(spawn_error=errno.EACCES)}
        )
        await box.start()
        with pytest.raises(SandboxLost):
            async with box.command(ordered("lost"), Collected(), Collected()) as running:
                await running.wait()
        assert running.exit is None
        with pytest.raises(SpawnFailed, match="Permission denied"):
            async with box.command(ordered("gone"), Collected(), Collected()):
                pass
        assert [FakeSandbox.text(command) for command in box.ran] == ["lost"]

    assert virtually(step) == 2


def test_programs_are_named_by_their_arguments() -> None:
    command = Command(cmd_id="c", argv=("git", "log", "a b"), cwd="/", env={}, stage="tests")
    assert FakeSandbox.text(command) == "git log 'a b'"
    assert FakeSandbox.text(ordered("git log")) == "git log"


# A whole run.

CONTRACT = """\
version: 1
security: {mode: system, max_total_seconds: 7200}
tests: {cmds: [make test], timeout_seconds: 3000}
"""


def run_through(
    folder: Path, box_of: Callable[[MockClock], FakeSandbox], contract: str
) -> tuple[RunResult, float]:
    (folder / "repo").mkdir()
    (folder / "repo" / "pipeline.yml").write_text(contract)
    clock = MockClock()

    async def go() -> tuple[RunResult, float]:
        asked = prepare(folder / "repo", Settings(state_dir=str(folder / "state"), environ={"PATH": "/bin"}))
        begun = trio.current_time()
        return await perform(asked, sandbox=box_of(clock)), trio.current_time() - begun

    return trio.run(go, clock=clock)


@pytest.mark.parametrize(
    ("takes", "code", "seconds"), [(2999, 0, 2999), (3001, 1, 3000)], ids=["in time", "too slow"]
)
def test_a_whole_run_is_driven_through_hours(tmp_path: Path, takes: float, code: int, seconds: float) -> None:
    def box(clock: MockClock) -> FakeSandbox:
        return FakeSandbox({"make test": FakeCommand(takes=takes, stdout=b"ok\n")}, clock=clock)

    result, passed = run_through(tmp_path, box, CONTRACT)
    assert code_of(result) == code
    assert passed == pytest.approx(seconds, abs=1)
    [only] = [one for stage in result.stages for one in stage.tries]
    assert only.stdout.head == "ok\n"
    assert only.timed_out == bool(code)


def test_a_run_in_a_place_that_is_lost_has_no_verdict(tmp_path: Path) -> None:
    result, _ = run_through(
        tmp_path, lambda clock: FakeSandbox(otherwise=FakeCommand(lost=True), clock=clock), CONTRACT
    )
    assert (result.reason, result.verdict, code_of(result)) == ("sandbox_lost", "no_verdict", 3)


def test_a_command_without_an_end_and_without_a_limit_is_a_mistake_of_the_test(tmp_path: Path) -> None:
    contract = "version: 1\nsecurity: {mode: system}\ntests: {cmds: [make test]}\n"
    result, _ = run_through(
        tmp_path, lambda clock: FakeSandbox(otherwise=FakeCommand(takes=float("inf")), clock=clock), contract
    )
    assert (result.reason, code_of(result)) == ("runner_error", 70)
