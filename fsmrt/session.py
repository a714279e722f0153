"""A run from its first question to its last line: target, contract, place, lease, record, pass, verdict.

run()  ->  read the contract        problems raise, before anything exists
       ->  place, lock, sweep       what cannot be is a result with its reason, and no run folder
       ->  open                     lease, run folder, sandbox; in the order in which they must be undone
       ->  supervise                the pass itself
       ->  close                    health, verdict, last event; then the same things backwards
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import anyio
from anyio import to_thread

from .control import Control
from .evidence.events import Event
from .lease import state_dir
from .messages import RunResult, Target
from .opening import Unopened
from .openrun import OpenRun
from .placement import Placement
from .reaper import sweep
from .request import Request, placement_of, prepare
from .result import refused
from .sandbox.base import Sandbox
from .settings import Settings
from .verdict import Reason

Observer = Callable[[Event], None]

log = logging.getLogger("fsmrt")


async def run(
    target: str | os.PathLike[str] = ".",
    settings: Settings | None = None,
    *,
    control: Control | None = None,
    on_event: Observer | None = None,
) -> RunResult:
    """Run the full pass of the contract at `target` and return what came of it.

    Raises `ContractError`, `SpecError` or `FileNotFoundError` for wrong use, before anything is started. A
    failing repository, a missing sandbox or a full disk is a result with a reason. When the caller is
    cancelled, the running command is ended, teardown follows, shielded and bounded, the record is closed, and
    then the cancellation goes on.

    `control` stops the run from outside; `on_event` is called on the event loop with every recorded event. If it
    raises, it is not called again, and the result has a warning.
    """
    return await perform(prepare(target, settings), control=control, on_event=on_event)


async def perform(
    request: Request,
    *,
    control: Control | None = None,
    on_event: Observer | None = None,
    sandbox: Sandbox | None = None,
) -> RunResult:
    """Run what `prepare` has checked; see `run`.

    `sandbox` is a place of the caller's for the commands, not yet started; the run starts and closes it.
    """
    answer: list[RunResult] = []
    # A native `Task.cancel()` strikes once, at whatever is awaited then. In a child task of a group it is a
    # cancelled scope, and holds until everything has been undone.
    control = control or Control()
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_perform, request, control, on_event, sandbox, answer)
    finally:
        control.finish()
    return answer[0]


def _brought(sandbox: Sandbox) -> Placement:
    return Placement(kind=sandbox.facts.kind, why="the caller brought a sandbox")


async def _perform(
    request: Request,
    control: Control,
    on_event: Observer | None,
    sandbox: Sandbox | None,
    answer: list[RunResult],
) -> None:
    placement = placement_of(request) if sandbox is None else _brought(sandbox)
    if placement.kind is None:
        answer.append(refused(request.run_id, _target(request), Reason.PREFLIGHT_FAILED, placement.why))
        return
    missing = _unobservable(request.settings)
    if missing is not None:
        answer.append(refused(request.run_id, _target(request), Reason.PREFLIGHT_FAILED, missing))
        return
    with ExitStack() as held:
        try:
            lock = request.repository.try_lock()
        except OSError as error:
            message = f"{request.repository.root} cannot be locked for a run: {error.strerror}"
            answer.append(refused(request.run_id, _target(request), Reason.PREFLIGHT_FAILED, message))
            return
        if lock is None:
            message = f"another run works in {request.repository.root}; it must end first"
            answer.append(refused(request.run_id, _target(request), Reason.REPO_BUSY, message))
            return
        held.callback(lock.release)
        answer.append(await _perform_locked(request, placement, control, on_event, sandbox))


async def _perform_locked(
    request: Request,
    placement: Placement,
    control: Control,
    on_event: Observer | None,
    sandbox: Sandbox | None,
) -> RunResult:
    try:
        state = _state_dir(request.settings)
    except OSError as error:
        why = f"{error.filename}: {error.strerror}"
        message = f"the state folder cannot be used: {why}; FSMRT_STATE_DIR names another"
        return refused(request.run_id, _target(request), Reason.PREFLIGHT_FAILED, message)
    try:
        reaped = await to_thread.run_sync(sweep, state)
        run = OpenRun(request, placement, state, control, on_event, sandbox)
        run.remark(one.remark for one in reaped)
        return await run.perform()
    except Unopened as unopened:
        return refused(request.run_id, _target(request), unopened.reason, str(unopened))
    except Exception as error:
        # A defect of ours outside of any stage. Everything was undone on the way here; the answer says so.
        log.exception("run %s ended by a defect of fsmrt", request.run_id)
        return refused(
            request.run_id, _target(request), Reason.RUNNER_ERROR, f"{type(error).__name__}: {error}"
        )


def _unobservable(settings: Settings) -> str | None:
    """A layer that was required and cannot be had here, as a sentence."""
    for layer, level in settings.observe.items():
        if level == "require" and layer in ("kernel", "network", "agent"):
            return f"observation of the {layer} layer is required, but it is not available: not_attempted"
    return None


def _target(request: Request) -> Target:
    return Target(kind="path", path=str(request.repository.root))


def _state_dir(settings: Settings) -> Path:
    chosen = {"FSMRT_STATE_DIR": settings.state_dir} if settings.state_dir else settings.environ
    return state_dir(chosen)
