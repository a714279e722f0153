from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread

from fsmrt.errors import SandboxLost
from fsmrt.sandbox import cgroup, containment
from fsmrt.sandbox.containment import CgroupContainment, WalkContainment, strongest
from fsmrt.sandbox.host import HostSandbox
from tests.sandbox.places import DEAF_CHILD, REAL, Box, Maker, opened

pytestmark = pytest.mark.anyio

needs_cgroup = pytest.mark.needs("cgroup")


def lanes(box: Box) -> list[str]:
    assert box.sandbox.facts.cgroup is not None
    return sorted(entry.name for entry in os.scandir(box.sandbox.facts.cgroup) if entry.is_dir())


@needs_cgroup
async def test_the_strongest_is_taken() -> None:
    held = strongest(f"test-{os.urandom(4).hex()}")
    assert isinstance(held, CgroupContainment)
    assert held.exact
    assert held.close()


async def test_a_walk_is_taken_where_there_is_nothing_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "why_unavailable", lambda: "it is Tuesday")
    held = strongest("some-run")
    assert isinstance(held, WalkContainment)
    assert not held.exact
    assert "it is Tuesday" in held.notes[0]


@needs_cgroup
async def test_a_lane_is_used_again_once_it_is_empty(tmp_path: Path) -> None:
    async with opened(HostSandbox, tmp_path) as box:
        for _ in range(5):
            await box.run("true")
        assert lanes(box) == ["lane-1"]


@needs_cgroup
async def test_a_lane_in_which_somebody_lives_is_left_alone(tmp_path: Path) -> None:
    async with opened(HostSandbox, tmp_path) as box:
        first = await box.run("sleep 30 >/dev/null 2>&1 &", children="stage")
        second = await box.run("true")
        assert (len(first.exit.leftover_pids), second.exit.leftover_pids) == (1, ())
        assert lanes(box) == ["lane-1", "lane-2"]
        await box.sandbox.end_children("tests")
        for _ in range(3):
            assert (await box.run("true")).exit.leftover_pids == ()
        assert lanes(box) == ["lane-1", "lane-2"]


@pytest.mark.parametrize("maker", REAL)
async def test_a_tree_ends_although_no_thread_can_be_started(
    maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when it has taken all the processes that it and we may have together."""

    async def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't start new thread")

    async with opened(maker, tmp_path) as box:
        await box.run(DEAF_CHILD)
        monkeypatch.setattr(to_thread, "run_sync", refuse)
        async with box.ready("echo ready; sleep 30 & wait"):
            pass
        assert "killed" in {one.how for one in await box.sandbox.close()}


@needs_cgroup
async def test_a_group_that_cannot_be_made_is_a_lost_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    async with opened(HostSandbox, tmp_path) as box:
        with monkeypatch.context() as patched:
            patched.setattr(containment, "Lane", refuse)
            with pytest.raises(SandboxLost, match="temporarily unavailable"):
                await box.run("true")
        assert (await box.run("exit 2")).exit.code == 2
