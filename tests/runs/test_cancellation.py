"""Whoever started a run may leave at any moment, in any way: afterwards nothing is left and the record says so."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import signal
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

from fsmrt.evidence.events import Event
from fsmrt.lease import read_leases
from fsmrt.messages import RunResult
from tests.runs.repo import ATTEMPT, Ran, Repo, evaluation

pytestmark = pytest.mark.anyio

PAUSE = "sleep 0.01"
SERVICE = "sleep 600 >/dev/null 2>&1 & setsid sleep 600 >/dev/null 2>&1 &"
EVENTS = 49
"""How many events the whole pass below has; a test says so if that changes."""

Cancel = Callable[[], None]
Work = Callable[[Callable[[Cancel], None]], Awaitable[RunResult]]


@pytest.fixture
def whole(repo: Repo) -> Repo:
    """A repository with something to interrupt in every stage."""
    repo.bootstrap(cmds=[PAUSE])
    return repo.contract(
        auth={"cmds": [PAUSE]},
        tests={"cmds": [f"{SERVICE} {PAUSE}"]},
        deploy={
            "setup_cmds": [f"{SERVICE} {PAUSE}"],
            "health_cmds": [PAUSE],
            "teardown_cmds": [f"{PAUSE}; touch torn_down"],
        },
        rollout={"run_cmds": [PAUSE]},
        evaluation=evaluation(),
        benchmark={"run_cmds": [PAUSE]},
    )


class Trigger:
    """Calls `cancel` at the n-th event."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.cancel: Cancel = lambda: None

    def __call__(self, event: Event) -> None:
        self.left -= 1
        if self.left == 0:
            self.cancel()


async def by_anyio_scope(repo: Repo, trigger: Trigger) -> None:
    with anyio.CancelScope() as scope:
        trigger.cancel = scope.cancel
        await repo.answer(on_event=trigger)


async def by_trio_scope(repo: Repo, trigger: Trigger) -> None:
    with trio.CancelScope() as scope:
        trigger.cancel = scope.cancel
        await repo.answer(on_event=trigger)


async def by_task_cancel(repo: Repo, trigger: Trigger) -> None:
    task = asyncio.ensure_future(repo.answer(on_event=trigger))
    trigger.cancel = lambda: None if task.done() else (task.cancel(), None)[1]
    with suppress(asyncio.CancelledError):
        await task


async def by_asyncio_timeout(repo: Repo, trigger: Trigger) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(None) as limit:
            trigger.cancel = lambda: limit.reschedule(asyncio.get_running_loop().time())
            await repo.answer(on_event=trigger)


async def by_group(repo: Repo, trigger: Trigger) -> None:
    """A sibling that fails takes the run with it."""
    failed = anyio.Event()
    trigger.cancel = failed.set

    async def fail() -> None:
        await failed.wait()
        raise ValueError("the sibling failed")

    async def work(group: Any) -> None:
        await repo.answer(on_event=trigger)
        group.cancel_scope.cancel()

    with suppress(BaseExceptionGroup):
        async with anyio.create_task_group() as group:
            group.start_soon(fail)
            group.start_soon(work, group)


def assert_undone(repo: Repo) -> Ran:
    """Nothing is left, and the record is whole; says which run it was."""
    ran = repo.last()
    ran.assert_sound()
    story = ran.story
    torn_down = (repo.root / "torn_down").exists()
    if "stage_started auth" in story:
        assert torn_down
    elif "stage_started bootstrap" in story:
        assert torn_down == ran.json("bootstrap/bootstrap_summary.json")["ok"]
    finished = ran.events[-1].data
    if "stage_started deploy_teardown" not in story or story.count("stage_started evaluation") == 0:
        assert (finished["verdict"], finished["ok"], finished["exit_code"]) == ("cancelled", False, 130)
        assert finished["reason"] == "cancelled_by_caller"
    return ran


async def test_the_whole_pass_has_so_many_events(whole: Repo) -> None:
    ran = await whole.run()

    assert len(ran.events) == EVENTS


@pytest.mark.parametrize(
    ("anyio_backend", "number"),
    [(("trio", "asyncio")[number % 2], number) for number in range(1, EVENTS + 1)],
)
async def test_a_scope_cancelled_at_any_event(whole: Repo, number: int) -> None:
    await by_anyio_scope(whole, Trigger(number))

    assert_undone(whole)


NATIVE = [
    pytest.param("trio", by_trio_scope, id="trio-scope"),
    pytest.param("trio", by_group, id="trio-sibling"),
    pytest.param("asyncio", by_task_cancel, id="asyncio-task"),
    pytest.param("asyncio", by_asyncio_timeout, id="asyncio-timeout"),
    pytest.param("asyncio", by_group, id="asyncio-sibling"),
]


@pytest.mark.parametrize("number", [1, 2, 4, 9, 16, 24, 32, 44])
@pytest.mark.parametrize(("anyio_backend", "leave"), NATIVE)
async def test_a_caller_that_leaves_in_its_own_way(
    whole: Repo, leave: Callable[[Repo, Trigger], Awaitable[None]], number: int
) -> None:
    await leave(whole, Trigger(number))

    assert_undone(whole)


@pytest.mark.parametrize("seed", range(10))
async def test_a_caller_that_leaves_at_a_random_moment(whole: Repo, seed: int) -> None:
    with anyio.move_on_after(random.Random(seed).uniform(0, 0.4)):
        await whole.answer()

    if whole.run_dirs():
        whole.last().assert_sound()
    assert read_leases(whole.state) == [] if whole.state.exists() else True
    assert whole.lock_is_free()


async def test_a_caller_that_left_before_it_began(whole: Repo) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await whole.answer()

    assert scope.cancelled_caught
    assert whole.lock_is_free()
    assert [path for path in whole.run_dirs() if not (path / "verdict.json").exists()] == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_cancelling_again_and_again_changes_nothing(whole: Repo) -> None:
    """Every native cancel is one edge; a second one must not cut the teardown that the first began."""
    task: asyncio.Future[RunResult]
    started = 0

    def cancel(event: Event) -> None:
        nonlocal started
        started += event.type == "command_started"
        if started >= 4 and not task.done():
            task.cancel()

    task = asyncio.ensure_future(whole.answer(on_event=cancel))
    with pytest.raises(asyncio.CancelledError):
        await task

    ran = assert_undone(whole)
    assert (ran.dir / ATTEMPT / "deploy_teardown_result.json").exists()


async def test_the_command_that_was_cut_says_so(repo: Repo) -> None:
    repo.contract(tests={"cmds": ["echo before; sleep 600", "touch after"], "retries": 3})

    with anyio.CancelScope() as scope:
        await repo.answer(on_event=lambda event: scope.cancel() if event.type == "command_started" else None)

    ran = repo.last()
    ran.assert_sound()
    result = ran.json("tests_result.json")
    assert (result["rc"], result["cancelled"], result["timed_out"]) == (130, True, False)
    assert ran.events_of("command_finished")[0]["cancelled"] is True
    assert ran.json("tests_summary.json")["ok"] is False
    assert not (repo.root / "after").exists()


# The program around it


def process_state() -> dict[str, Any]:
    """What a library must not change in the program that uses it."""
    answer = ctypes.c_int()
    ctypes.CDLL(None).prctl(37, ctypes.byref(answer), 0, 0, 0)
    mask = os.umask(0o077)
    os.umask(mask)
    return {
        "handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "wakeup": _wakeup_fd(),
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "cwd": Path.cwd(),
        "environ": dict(os.environ),
        "umask": mask,
        "subreaper": answer.value,
    }


def _wakeup_fd() -> int | None:
    if threading.current_thread() is not threading.main_thread():
        return None
    descriptor = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(descriptor)
    return descriptor


async def test_nothing_of_the_program_around_is_changed(whole: Repo) -> None:
    before = process_state()
    seen: list[bool] = []

    await whole.run(
        on_event=lambda event: seen.append(_without_test_name(process_state()) == _without_test_name(before))
    )

    assert seen
    assert all(seen)
    assert process_state() == before


def _without_test_name(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "environ": {k: v for k, v in state["environ"].items() if k != "PYTEST_CURRENT_TEST"}}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_loops_executor_is_left_alone(whole: Repo) -> None:
    loop = asyncio.get_running_loop()
    before = getattr(loop, "_default_executor")  # noqa: B009 -- private, and there is no other way to see it

    await whole.run()

    assert getattr(loop, "_default_executor") is before  # noqa: B009


async def test_no_descriptor_is_left_open(whole: Repo) -> None:
    await whole.run()
    before = len(os.listdir("/proc/self/fd"))

    await whole.run()

    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
async def test_it_runs_in_a_thread_that_is_not_the_main_one(whole: Repo, backend: str) -> None:
    ran = await anyio.to_thread.run_sync(lambda: anyio.run(whole.run, backend=backend))

    assert ran.result.ok


def test_two_loops_in_two_threads_do_not_meet(tmp_path: Path) -> None:
    repos = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        repo = Repo(tmp_path / name)
        repos.append(repo.contract(tests={"cmds": [f"{SERVICE} {PAUSE}"] * 5, "env": {"NAME": name}}))
    answers: dict[str, Ran] = {}

    def work(repo: Repo, backend: str) -> None:
        answers[backend] = anyio.run(repo.run, backend=backend)

    threads = [
        threading.Thread(target=work, args=(repo, backend))
        for repo, backend in zip(repos, ("trio", "asyncio"), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert sorted(answers) == ["asyncio", "trio"]
    assert all(ran.result.ok for ran in answers.values())
