"""The host program around a sandbox: its children, its threads, its signals, and what it adopts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from fsmrt.errors import SandboxLost
from fsmrt.sandbox import cgroup, host, walk
from fsmrt.sandbox.procfs import read_facts
from tests.sandbox.places import CHILD, DEAF, REAL, SLEEP, Maker, opened

for_real = pytest.mark.parametrize("maker", REAL)
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def own_children() -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Children of the program that have nothing to do with fsmrt: one lives, one is over and not yet collected."""
    living, over = subprocess.Popen(["/bin/sleep", "30"]), subprocess.Popen(["/bin/sh", "-c", "exit 5"])
    os.waitid(os.P_PID, over.pid, os.WEXITED | os.WNOWAIT)
    with living, over:
        yield {"living": living, "over": over}
        living.kill()


@for_real
@pytest.mark.anyio
async def test_children_of_the_program_are_never_touched(
    maker: Maker, tmp_path: Path, own_children: dict[str, subprocess.Popen[bytes]]
) -> None:
    async with opened(maker, tmp_path, adopted=True) as box:
        async with box.ready(DEAF):
            pass
        await box.run(CHILD)
        box.sandbox.kill_now()
    assert own_children["living"].poll() is None
    assert read_facts(own_children["over"].pid) is not None
    assert own_children["over"].wait() == 5


@for_real
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_it_works_outside_the_main_thread(maker: Maker, tmp_path: Path, backend: str) -> None:
    codes: list[int | None] = []

    async def go() -> None:
        async with opened(maker, tmp_path) as box:
            codes.append((await box.run("exit 3")).exit.code)
            async with box.ready(DEAF) as running:
                pass
            codes.append(running.exit.signal if running.exit else None)

    thread = threading.Thread(target=lambda: anyio.run(go, backend=backend))
    thread.start()
    thread.join()
    assert codes == [3, 9]


@for_real
@pytest.mark.anyio
async def test_a_program_that_ignores_its_children_gets_no_result_and_leaves_nothing(
    maker: Maker, tmp_path: Path
) -> None:
    async with opened(maker, tmp_path) as box:
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            for text in ("true", "sleep 30 >/dev/null 2>&1 & exit 0"):
                with anyio.fail_after(10), pytest.raises(SandboxLost):
                    await box.run(text)
                assert box.alive() == 0
            with anyio.fail_after(10):
                async with box.ready(SLEEP) as running:
                    pass
            assert running.exit is None
            assert box.alive() == 0
        finally:
            signal.signal(signal.SIGCHLD, before)


@for_real
@pytest.mark.anyio
async def test_a_grace_longer_than_usual_is_kept_in_cleanup_too(maker: Maker, tmp_path: Path) -> None:
    async with opened(maker, tmp_path, grace=60) as box:
        async with box.ready(
            "trap 'sleep 0.3; exit 6' TERM; echo ready; while :; do sleep 0.02; done"
        ) as running:
            pass
        assert running.exit is not None
        assert running.exit.code == 6
        assert isinstance(running, host.HostCommand)
        assert running.patience > 60


@for_real
@pytest.mark.anyio
async def test_what_cannot_be_ended_is_reported_and_tried_again(
    maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(maker, tmp_path) as box:
        with monkeypatch.context() as patched:
            patched.setattr(host, "PROOF_SECONDS", 0.05)
            patched.setattr(walk, "send", lambda *_: False)
            patched.setattr(cgroup, "kill_group", lambda path: None)
            with pytest.raises(SandboxLost, match="could not be ended"):
                async with box.ready("trap '' TERM; echo ready; exec sleep 30") as running:
                    await running.end(0.01)
            assert running.exit is None
            assert {one.how for one in await box.sandbox.end_children("tests")} == {"leaked"}
        assert [one.how for one in await box.sandbox.end_children("tests")] == ["killed"]


PROGRAM = """
import anyio, pathlib, sys
from fsmrt.sandbox.containment import become_subreaper
from fsmrt.sandbox.host import HostSandbox
from tests.sandbox import places

async def main():
    async with places.opened(HostSandbox, pathlib.Path("/"), adopted=False) as box:
        for _ in range(3):
            await box.run("(setsid sh -c 'sleep 30 & exit' & exit); setsid sleep 0.01 & exit", children="stage")
        await box.sandbox.end_children("tests")
        print(len(places.zombies()))

become_subreaper()
anyio.run(main, backend="trio")
"""


@pytest.mark.needs("cgroup")
def test_orphans_that_came_to_us_are_collected() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr
