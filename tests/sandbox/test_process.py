from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from fsmrt.errors import SandboxLost, SpawnFailed
from fsmrt.messages import Command
from fsmrt.sandbox.process import Process, _own_peak
from tests.sandbox.places import Collected, Counted, open_files, zombies

pytestmark = pytest.mark.anyio


def ordered(text: str, **more: Any) -> Command:
    plain: dict[str, Any] = {"cmd_id": "c0001", "cwd": "/", "stage": "tests", "env": {"PATH": os.defpath}}
    return Command(**plain | {"argv": ("/bin/sh", "-c", text)} | more)


async def test_the_kernel_says_what_a_command_used() -> None:
    with Process(ordered("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"), Counted(), Counted()) as one:
        await one.wait()
        ended = one.exit(leftover=(), cgroup=None)
    assert ended.usage is not None
    assert ended.usage.utime_us + ended.usage.stime_us > 1000
    assert 0 < ended.seconds < 60


def test_a_peak_that_may_be_ours_is_nobodys() -> None:
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert _own_peak(ours) is None
    assert _own_peak(ours * 2) == ours * 2


async def test_there_are_no_facts_of_an_end_before_it() -> None:
    with Process(ordered("read _ < /dev/zero"), Counted(), Counted()) as one:
        with pytest.raises(SandboxLost, match="has not ended"):
            one.exit(leftover=(), cgroup=None)
        os.kill(one.pid, signal.SIGKILL)
        await one.wait()
        assert one.exit(leftover=(), cgroup=None).signal == signal.SIGKILL


async def test_a_core_dump_is_noted_when_there_is_one() -> None:
    with Process(ordered("ulimit -c 0; kill -QUIT $$"), Counted(), Counted()) as one:
        await one.wait()
        ended = one.exit(leftover=(), cgroup=None)
    assert (ended.signal, ended.core_dumped) == (signal.SIGQUIT, False)


async def test_a_stream_that_carries_much_gets_a_wider_pipe() -> None:
    import fcntl

    with Process(ordered("head -c 1000000 /dev/zero; sleep 0.05"), Counted(), Counted()) as one:
        out, err = one._streams
        before = fcntl.fcntl(out.reader, fcntl.F_GETPIPE_SZ)
        await until_total(one, 1_000_000)
        assert fcntl.fcntl(out.reader, fcntl.F_GETPIPE_SZ) > before
        assert fcntl.fcntl(err.reader, fcntl.F_GETPIPE_SZ) == before
        await one.wait()


async def until_total(one: Process, total: int) -> None:
    while one.printed < total:
        await one._turn()


# When the status cannot be had.


@pytest.fixture
def sigchld_ignored() -> Iterator[None]:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.usefixtures("sigchld_ignored")
async def test_a_program_that_ignores_its_children_learns_that_the_status_is_lost() -> None:
    out = Collected()
    with Process(ordered("printf out"), out, Counted()) as one, anyio.fail_after(5):
        await one.wait()
        with pytest.raises(SandboxLost, match="taken by somebody else"):
            one.exit(leftover=(), cgroup=None)
    assert out.data == b"out"


async def test_a_status_that_was_taken_is_lost_and_nobody_waits_for_it_again() -> None:
    with Process(ordered("sleep 30 & exit 3"), Counted(), Counted()) as one:
        assert os.waitpid(one.pid, 0)[0] == one.pid  # noqa: ASYNC222 -- somebody who knows no better
        begun = time.process_time()
        with anyio.fail_after(5):
            await one.wait()
        assert time.process_time() - begun < 1  # it drained for two seconds, and did not spin
        assert one.exited
        with pytest.raises(SandboxLost):
            one.exit(leftover=(), cgroup=None)
        os.killpg(one.pid, signal.SIGKILL)


# When descriptors run out.


def test_no_descriptor_and_no_process_is_left_wherever_they_run_out(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files, outcomes = open_files(), set()
    for spare in range(16):
        spent = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (files + spare + 8, hard))
        try:
            spent = use_up(spare)
            outcomes.add(attempt(tmp_path / str(spare)))
        finally:
            for descriptor in spent:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert open_files() == files
        assert zombies() == []
    assert outcomes == {"SandboxLost", "SpawnFailed", "started"}


def use_up(spare: int) -> list[int]:
    """All descriptors but so many."""
    spent = []
    while True:
        try:
            spent.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            break
    for _ in range(spare):
        os.close(spent.pop())
    return spent


def attempt(trace: Path) -> str:
    try:
        with Process(ordered("true"), Counted(), Counted()) as one:
            os.waitpid(one.pid, 0)
            assert one.collect_now()
    except (SandboxLost, SpawnFailed) as error:
        return type(error).__name__
    return "started"


def test_a_process_that_cannot_be_watched_is_killed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def refuse(pid: int) -> int:
        started.append(pid)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    files = open_files()
    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(SandboxLost, match="could not be watched"):
        Process(ordered("exec sleep 30"), Counted(), Counted())
    [pid] = started
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert open_files() == files


# Sinks that fail.


class Failing:
    def __init__(self, error: Exception) -> None:
        self.error = error
        self.calls = 0

    def write(self, data: bytes) -> None:
        self.calls += 1
        raise self.error


async def test_a_sink_fails_once_and_is_asked_no_more() -> None:
    out, err = Failing(KeyError("out")), Failing(ValueError("err"))
    with Process(ordered("for i in 1 2 3; do echo; echo >&2; sleep 0.02; done"), out, err) as one:
        with pytest.raises((KeyError, ValueError)):
            await one.wait()
        assert await one.wait_until(anyio.current_time() + 5)
        await one.drain()
        with pytest.raises((KeyError, ValueError)):
            one.check_sinks()
        one.check_sinks()
    assert (out.calls, err.calls) == (1, 1)


async def test_it_works_under_another_event_loop() -> None:
    """uvloop, in a program of its own: its event loop policy is for the whole process."""
    program = (
        "import anyio, uvloop, sys; from tests.sandbox.test_process import ordered;"
        "from tests.sandbox.places import Collected; from fsmrt.sandbox.process import Process\n"
        "async def main():\n"
        "    out = Collected()\n"
        "    with Process(ordered('printf out; sleep 0.05; printf put; exit 3'), out, out) as one:\n"
        "        await one.wait()\n"
        "        print(out.data.decode(), one.exit(leftover=(), cgroup=None).code)\n"
        "anyio.run(main, backend='asyncio', backend_options={'use_uvloop': True})"
    )
    done = await anyio.run_process([sys.executable, "-c", program], check=False)
    assert done.stdout.split() == [b"output", b"3"], done.stderr.decode()
