"""Following and stopping a run from outside."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import anyio
import pytest

import fsmrt

pytestmark = pytest.mark.anyio

PIPELINE = """\
version: 1
security: {mode: system, max_cmd_seconds: 60}
tests:
  cmds: ["echo one", "%s"]
deploy:
  teardown_cmds: ["echo down"]
"""


@pytest.fixture
def settings(tmp_path: Path) -> fsmrt.Settings:
    return fsmrt.Settings(state_dir=str(tmp_path / "state"), environ={"PATH": "/usr/bin:/bin"})


def repository(tmp_path: Path, second: str) -> Path:
    root = tmp_path / "repo"
    root.mkdir()
    (root / "pipeline.yml").write_text(PIPELINE % second)
    return root


async def test_events_can_be_followed_from_before_the_start(tmp_path: Path, settings: fsmrt.Settings) -> None:
    control, followed, called = fsmrt.Control(), [], []

    async def follow() -> None:
        async for event in control.events():
            assert not isinstance(event, fsmrt.Lagged)
            followed.append((event.seq, event.type))

    async with anyio.create_task_group() as group:
        group.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        root = repository(tmp_path, "true")
        result = await fsmrt.run(
            root, settings, control=control, on_event=lambda event: called.append((event.seq, event.type))
        )
    assert result.ok
    assert followed == called
    assert [seq for seq, _ in followed] == list(range(len(followed)))
    assert followed[-1][1] == "run_finished"


async def test_a_stop_ends_the_running_command_and_tears_down(
    tmp_path: Path, settings: fsmrt.Settings
) -> None:
    control = fsmrt.Control()

    async def stop_in_the_second_command() -> None:
        started = 0
        async with aclosing(control.events()) as events:
            async for event in events:
                started += not isinstance(event, fsmrt.Lagged) and event.type == "command_started"
                if started == 2:
                    control.stop()
                    return

    async with anyio.create_task_group() as group:
        group.start_soon(stop_in_the_second_command)
        result = await fsmrt.run(repository(tmp_path, "sleep 60"), settings, control=control)
    assert (result.verdict, result.reason) == ("cancelled", fsmrt.Reason.CANCELLED_BY_CALLER)
    tests = next(report for report in result.stages if report.stage == "tests")
    assert [one.rc for one in tests.tries] == [0, 130]
    assert tests.tries[1].cancelled
    assert next(report for report in result.stages if report.stage == "deploy_teardown").ok


async def test_a_stop_before_the_start_runs_nothing(tmp_path: Path, settings: fsmrt.Settings) -> None:
    control = fsmrt.Control()
    control.stop()
    result = await fsmrt.run(repository(tmp_path, "true"), settings, control=control)
    assert result.verdict == "cancelled"
    assert not any(report.tries for report in result.stages if report.stage == "tests")


async def test_a_run_that_is_refused_lets_its_followers_go(tmp_path: Path) -> None:
    control = fsmrt.Control()
    root = repository(tmp_path, "true")
    (root / "pipeline.yml").write_text("version: 1\n")
    followed: list[object] = []

    async def follow() -> None:
        followed.extend([event async for event in control.events()])

    async with anyio.create_task_group() as group:
        group.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        result = await fsmrt.run(root, fsmrt.Settings(sandbox="docker"), control=control)
    assert result.reason is fsmrt.Reason.PREFLIGHT_FAILED
    assert followed == []
