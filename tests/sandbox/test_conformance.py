"""What `fsmrt/sandbox/base.py` promises in words, in code: one suite for every sandbox, the fake included."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from fsmrt.errors import EvidenceWriteFailed, SandboxLost, SpawnFailed
from fsmrt.sandbox import cgroup
from fsmrt.testing import FakeSandbox
from tests.sandbox.places import (
    BURST,
    CHILD,
    DEAF,
    DEAF_CHILD,
    EVERY,
    FLOOD,
    GRACE,
    HOLDING_CHILD,
    REAL,
    SLEEP,
    STOPPED,
    Box,
    Collected,
    Counted,
    Maker,
    end_by_hand,
    open_files,
    opened,
    until,
)

pytestmark = pytest.mark.anyio

everywhere = pytest.mark.parametrize("maker", EVERY)
for_real = pytest.mark.parametrize("maker", REAL)

Open = Callable[..., AbstractAsyncContextManager[Box]]


@pytest.fixture
def box(maker: Maker, tmp_path: Path) -> Open:
    return partial(opened, maker, tmp_path)


# How a command ended.


@everywhere
@pytest.mark.parametrize("code", [0, 1, 2, 124, 130, 255])
async def test_an_exit_code_is_the_commands_own(box: Open, code: int) -> None:
    async with box() as b:
        done = await b.run(f"exit {code}")
        assert (done.exit.code, done.exit.signal, done.exit.rc) == (code, None, code)


@everywhere
@pytest.mark.parametrize("number", [1, 9, 15])
async def test_a_signal_is_told_from_a_code(box: Open, number: int) -> None:
    async with box() as b:
        done = await b.run(f"kill -{number} $$")
        assert (done.exit.code, done.exit.signal, done.exit.rc) == (None, number, 128 + number)


@everywhere
async def test_there_is_no_exit_before_the_end(box: Open) -> None:
    async with box() as b, b.ready(SLEEP) as running:
        assert running.exit is None
        await running.end()
        assert running.exit is not None


@everywhere
@pytest.mark.parametrize("text", ["/no/such/program"])
async def test_a_missing_program_is_no_result_of_a_command(box: Open, text: str) -> None:
    async with box() as b:
        files = open_files()
        for _ in range(3):
            with pytest.raises(SpawnFailed, match="No such file"):
                await b.run(argv=(text,))
        assert open_files() <= files + 5  # what the place keeps for its next command
        assert (await b.run("true")).exit.code == 0


@for_real
@pytest.mark.parametrize(
    "more",
    [{"cwd": "/no/such/folder"}, {"env": {"HUGE": "x" * (1 << 20)}}, {"argv": ("true", "a\0b")}],
    ids=["no folder", "too much", "a NUL"],
)
async def test_what_cannot_be_started_says_so(box: Open, more: dict[str, object]) -> None:
    async with box() as b:
        with pytest.raises(SpawnFailed):
            await b.run("true", **more)
        b.assert_nothing_left()


# What a command gets, and what it prints.


@everywhere
async def test_the_streams_are_separate_and_complete(box: Open) -> None:
    async with box() as b:
        done = await b.run("printf out; printf err >&2")
        assert (done.out, done.err) == (b"out", b"err")


@everywhere
async def test_output_is_bytes(box: Open) -> None:
    async with box() as b:
        assert (await b.run(r"printf '\377\376\000\n\r'")).out == b"\xff\xfe\x00\n\r"


@everywhere
async def test_silence_is_nothing(box: Open) -> None:
    async with box() as b:
        done = await b.run("true")
        assert (done.out, done.err, done.exit.drain_cut) == (b"", b"", False)


@for_real
async def test_the_end_of_a_long_output_is_there(box: Open) -> None:
    async with box() as b:
        done = await b.run("head -c 9000000 /dev/zero; printf end")
        assert len(done.out) == 9_000_003
        assert done.out.endswith(b"end")


@for_real
async def test_input_is_at_its_end(box: Open) -> None:
    async with box() as b:
        assert (await b.run("cat; printf done")).out == b"done"


@for_real
async def test_the_environment_and_the_folder_are_those_given_and_no_others(box: Open) -> None:
    async with box() as b:
        command = b.ordered(argv=("/usr/bin/env", "-0"), env={"NAME": "a\nb", "EMPTY": ""})
        out = Collected()
        async with b.sandbox.command(command, out, Counted()) as running:
            await running.wait()
        assert {*out.data.decode().rstrip("\0").split("\0")} == {f"{k}={v}" for k, v in command.env.items()}
        assert (await b.run("pwd -P")).out.decode().rstrip("\n") == str(b.folder.resolve())


@for_real
async def test_a_command_has_a_session_of_its_own(box: Open) -> None:
    async with box() as b:
        done = await b.run("echo $$; cut -d ' ' -f 6 /proc/$$/stat")
        pid, session = done.out.split()
        assert pid == session


@everywhere
async def test_a_flood_is_reported_at_the_limit(box: Open) -> None:
    async with box() as b:
        done = await b.run(FLOOD, output_bytes=100_000)
        assert done.outcome == "output_limit"
        assert done.exit.rc != 0
        assert 100_000 < len(done.out) < 4_000_000


@everywhere
async def test_a_limit_counts_for_the_last_words_too(box: Open) -> None:
    async with box() as b:
        for _ in range(10):
            assert (await b.run(BURST, output_bytes=99)).outcome == "output_limit"
        assert (await b.run(BURST, output_bytes=100)).outcome == "exited"


@for_real
@pytest.mark.slow
async def test_a_gibibyte_on_one_line_costs_no_memory(box: Open) -> None:
    async with box() as b:
        await b.run("head -c 9000000 /dev/zero")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        out = Counted()
        async with b.sandbox.command(b.ordered(f"head -c {1 << 30} /dev/zero"), out, Counted()) as running:
            await running.wait()
        assert out.total == 1 << 30
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10


class Full:
    """A disk without space."""

    def write(self, data: bytes) -> None:
        raise EvidenceWriteFailed("out.txt", OSError(28, "No space left on device"))


@everywhere
@pytest.mark.parametrize("text", [DEAF, FLOOD])
async def test_output_that_cannot_be_kept_ends_the_command_all_the_same(box: Open, text: str) -> None:
    async with box() as b:
        with pytest.raises(EvidenceWriteFailed):
            async with b.sandbox.command(b.ordered(text), Full(), Full()) as running:
                await running.wait()
        b.assert_nothing_left()


# Ending a command.


@everywhere
@pytest.mark.parametrize("text", [SLEEP, STOPPED])
async def test_the_end_is_asked_for_first(box: Open, text: str) -> None:
    async with box(grace=5) as b:
        async with b.ready(text) as running:
            await running.end()
            b.assert_nothing_left()
        assert running.exit is not None
        assert running.exit.signal == 15


@for_real
async def test_who_is_asked_may_tidy_up(box: Open) -> None:
    async with box(grace=5) as b:
        async with b.ready("trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done") as running:
            await running.end()
        assert running.exit is not None
        assert running.exit.code == 7


@everywhere
async def test_who_does_not_listen_is_killed_after_the_grace(box: Open) -> None:
    async with box() as b, b.ready(DEAF) as running:
        begun = anyio.current_time()
        await running.end()
        assert running.exit is not None
        assert running.exit.signal == 9
        assert GRACE <= anyio.current_time() - begun < GRACE + 2
        b.assert_nothing_left()


@everywhere
async def test_without_a_grace_nobody_is_asked(box: Open) -> None:
    async with box(grace=30) as b, b.ready(SLEEP) as running:
        with anyio.fail_after(5):
            await running.end(0)
        assert running.exit is not None
        assert running.exit.signal == 9


@everywhere
async def test_ending_what_has_ended_changes_nothing(box: Open) -> None:
    async with box() as b, b.command("exit 2") as running:
        await running.wait()
        await running.end()
        assert running.exit is not None
        assert running.exit.code == 2


@everywhere
@pytest.mark.parametrize("text", [SLEEP, DEAF])
async def test_leaving_the_block_ends_the_command(box: Open, text: str) -> None:
    async with box() as b:
        async with b.ready(text):
            await until(lambda: b.alive() >= 1)  # in the middle of an exec a process shows no environment
        b.assert_nothing_left()


@everywhere
async def test_an_error_in_the_block_comes_out_of_it_with_nothing_left(box: Open) -> None:
    async with box() as b:
        with pytest.raises(ZeroDivisionError):
            async with b.ready(SLEEP):
                raise ZeroDivisionError
        b.assert_nothing_left()


TREES = {
    "a pipeline": "sleep 30 | sleep 30 | sleep 30",
    "a session of its own": "setsid sleep 30 & sleep 30",
    "a daemon": "(setsid sh -c 'sleep 30 & exit' & exit) ; sleep 30",
    "a stopped child": "sleep 30 & kill -STOP $!; sleep 30",
    "a hundred": "i=0; while [ $i -lt 100 ]; do sleep 30 & i=$((i+1)); done; wait",
}


@for_real
@pytest.mark.parametrize("tree", TREES)
async def test_the_whole_tree_ends(box: Open, tree: str) -> None:
    async with box() as b, b.ready(f"echo ready; {TREES[tree]}") as running:
        await running.end()
        b.assert_nothing_left()


# Background children.


@everywhere
async def test_a_background_child_blocks_nobody_and_is_listed(box: Open) -> None:
    async with box() as b:
        with anyio.fail_after(1.5):
            done = await b.run(CHILD)
        assert done.exit.code == 0
        assert len(done.exit.leftover_pids) == 1
        assert b.alive() == 1


@everywhere
async def test_output_that_stays_open_is_cut_and_flagged(box: Open) -> None:
    async with box() as b:
        begun = anyio.current_time()
        done = await b.run(HOLDING_CHILD)
        assert 1.9 <= anyio.current_time() - begun < 3.5
        assert (done.out, done.exit.code, done.exit.drain_cut) == (b"ready\n", 0, True)


@everywhere
async def test_children_live_as_long_as_their_stage_or_the_run(box: Open) -> None:
    async with box() as b:
        await b.run(CHILD, stage="tests", children="stage")
        await b.run(CHILD, stage="rollout", children="stage")
        await b.run(CHILD, stage="tests", children="run")
        assert [one.how for one in await b.sandbox.end_children("tests")] == ["terminated"]
        assert b.alive() == 2
        assert await b.sandbox.end_children("tests") == []
        assert [one.how for one in await b.sandbox.close()] == ["terminated"] * 2


@everywhere
async def test_closing_waits_one_grace_for_all_together(box: Open) -> None:
    async with box(grace=1) as b:
        for _ in range(6):
            await b.run(DEAF_CHILD)
        begun = anyio.current_time()
        ended = await b.sandbox.close()
        assert anyio.current_time() - begun < 3
        assert sum(one.how == "killed" for one in ended) >= 6


@everywhere
async def test_a_place_may_be_left_with_what_is_to_outlive_it(box: Open) -> None:
    async with box() as b:
        await b.run(CHILD, children="run")
        await b.run(CHILD, children="stage")
        how = {one.how: one.pid for one in await b.sandbox.close(leave_running=True)}
        assert set(how) == {"terminated", "left_running"}
        assert b.alive() == 1
        if not isinstance(b.sandbox, FakeSandbox):
            await end_by_hand(how["left_running"])
            if b.sandbox.facts.cgroup:
                cgroup.remove_group(Path(b.sandbox.facts.cgroup))
        else:
            b.sandbox.kill_now()


# The place itself.


@everywhere
async def test_a_place_that_is_not_open_refuses(maker: Maker, tmp_path: Path) -> None:
    sandbox = maker("never-started", grace=GRACE)
    with pytest.raises(SandboxLost):
        await Box(sandbox, "never-started", tmp_path).run("true")
    assert await sandbox.close() == ()
    async with opened(maker, tmp_path) as b:
        await b.sandbox.close()
        assert await b.sandbox.close() == ()
        with pytest.raises(SandboxLost):
            await b.run("true")


@everywhere
async def test_many_at_once_do_not_disturb_each_other(box: Open) -> None:
    codes: list[int | None] = []

    async def one(b: Box, code: int) -> None:
        done = await b.run(f"exit {code}")
        assert done.exit.code == code
        codes.append(done.exit.code)

    async with box() as b:
        async with anyio.create_task_group() as group:
            for index in range(64):
                group.start_soon(one, b, index % 3)
        assert len(codes) == 64


@everywhere
async def test_one_that_is_ended_takes_no_other_with_it(box: Open) -> None:
    async with box() as b, b.ready(SLEEP) as other:
        async with b.ready(DEAF):
            pass
        assert other.exit is None
        assert b.alive() == 1


@everywhere
@pytest.mark.parametrize("text", [SLEEP, DEAF])
async def test_killing_now_asks_nobody_and_the_place_goes_on(box: Open, text: str) -> None:
    async with box(grace=30) as b:
        await b.run(CHILD)
        async with b.ready(text) as running:
            b.sandbox.kill_now()
            with anyio.fail_after(5):
                assert await running.wait() == "exited"
                await running.end()
        assert running.exit is not None
        assert running.exit.signal == 9
        assert (await b.run("exit 2")).exit.code == 2


@everywhere
async def test_closing_under_a_running_command_ends_it(box: Open) -> None:
    async with box() as b, b.ready(DEAF) as running:
        async with anyio.create_task_group() as group:
            group.start_soon(running.wait)
            await b.sandbox.close()
        assert running.exit is not None
        assert running.exit.signal == 9


# Cancellation: at each step, and nothing is left.


async def cancelled_after(passes: int, step: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Perform a step that is cancelled once the event loop has gone round so many times."""
    async with anyio.create_task_group() as group:
        group.start_soon(step)
        for _ in range(passes):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()


@everywhere
@pytest.mark.parametrize("passes", [0, 1, 2, 3, 5, 8, 13, 40])
@pytest.mark.parametrize("text", ["true", SLEEP, DEAF])
async def test_a_command_cancelled_anywhere_leaves_nothing(box: Open, text: str, passes: int) -> None:
    async with box(grace=0.05) as b:
        await cancelled_after(passes, partial(b.run, text))
        b.assert_nothing_left()
        assert (await b.run("exit 2")).exit.code == 2


@everywhere
@pytest.mark.parametrize("text", [HOLDING_CHILD])
async def test_cancelled_while_draining(box: Open, text: str) -> None:
    async with box() as b:
        with anyio.move_on_after(0.3) as scope:
            await b.run(text)
        assert scope.cancelled_caught
        b.assert_nothing_left()


@everywhere
async def test_cancelled_while_ending(box: Open) -> None:
    async with box() as b:
        with anyio.move_on_after(10) as scope:
            async with b.ready(DEAF) as running:
                scope.deadline = anyio.current_time() + 0.05
                await running.end(30)
        assert scope.cancelled_caught
        b.assert_nothing_left()


@everywhere
@pytest.mark.parametrize("passes", [0, 1, 2, 3, 5, 8, 13, 40])
async def test_ending_children_can_be_cancelled_and_done_again(box: Open, passes: int) -> None:
    async with box() as b:
        await b.run(DEAF_CHILD, children="stage")
        await cancelled_after(passes, partial(b.sandbox.end_children, "tests"))
        await b.sandbox.end_children("tests")
        b.assert_nothing_left()


@everywhere
@pytest.mark.parametrize("passes", [0, 1, 2, 3, 5, 8, 13, 40])
async def test_closing_can_be_cancelled_and_done_again(box: Open, passes: int) -> None:
    async with box() as b:
        await b.run(DEAF_CHILD)
        await cancelled_after(passes, b.sandbox.close)
        await b.sandbox.close()
        b.assert_nothing_left()


@for_real
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_native_cancel_of_asyncio_leaves_nothing(box: Open) -> None:
    async def inside(b: Box) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(b.run, DEAF)

    async with box() as b:
        task = asyncio.ensure_future(inside(b))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        b.assert_nothing_left()


# Somebody else than root.


@pytest.mark.slow
@pytest.mark.needs("root")
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_all_of_it_holds_for_a_user_without_privileges(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o777)
    here = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", "-k", "walk"]
    done = await anyio.run_process(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", *here, __file__],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:].decode()
