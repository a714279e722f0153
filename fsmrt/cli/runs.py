"""Runs on this machine: the live ones by their leases, the others by their folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ..contract_files import read_contract
from ..errors import EvidenceError
from ..evidence.events import EVENTS, RUN, Event, read_events
from ..lease import Lease, is_alive, read_leases, state_dir
from ..repository import CONTRACT_DIR, Repository
from .configuration import defaults, state_environ
from .picture import Picture
from .usage import UsageError


def state_folder() -> Path:
    """The folder of live runs. Raises `UsageError` where it cannot be."""
    environ = state_environ()
    try:
        return state_dir(environ)
    except OSError as error:
        raise UsageError(
            f"the state folder cannot be used: {error.filename}: {error.strerror}; FSMRT_STATE_DIR names another"
        ) from None


def live_leases(state: Path) -> list[Lease]:
    """The leases of runs that are going on, oldest first."""
    return sorted((lease for lease in read_leases(state) if is_alive(lease)), key=_born)


def _born(lease: Lease) -> str:
    return lease.created_at


def age_seconds(lease: Lease) -> float:
    """How long ago a run began."""
    began = datetime.fromisoformat(lease.created_at)
    return max(0.0, (datetime.now(UTC) - began).total_seconds())


def picture_of(run_dir: Path) -> Picture:
    """A run as far as its events have come; empty while there are none."""
    picture = Picture()
    for event in recorded(run_dir):
        picture.apply(event)
    return picture


def recorded(run_dir: Path) -> Iterator[Event]:
    """The events that can be read. A damaged line ends them: `logs` shows what there is."""
    try:
        yield from read_events(run_dir)
    except (FileNotFoundError, EvidenceError):
        return


def find(name: str | None) -> Path:
    """The run folder that was meant: a path, an id, the beginning of an id, or the newest one here.

    Raises `UsageError`, with what there is to choose from.
    """
    if name is not None and _is_run(Path(name)):
        return Path(name).absolute()
    known = _known_runs()
    if name is None:
        if not known:
            raise UsageError("no run is recorded here; name a run, or its folder")
        return max(known, key=_age)
    fitting = sorted(path for path in known if path.name.startswith(name))
    if not fitting:
        raise UsageError(f"no run {name!r} is recorded here, and none of that name is live")
    if len(fitting) > 1:
        raise UsageError(f"{name!r} fits {len(fitting)} runs: {', '.join(path.name for path in fitting[:5])}")
    return fitting[0]


def _age(run: Path) -> tuple[str, int]:
    """Runs of one second are told apart by their folders: the rest of an id is random."""
    return run.name.partition("-")[0], run.stat().st_mtime_ns


def _known_runs() -> set[Path]:
    here = {path for place in _places(Path.cwd()) for path in _runs_in(place)}
    return here | {
        Path(lease.run_dir) for lease in live_leases(state_folder()) if _is_run(Path(lease.run_dir))
    }


def _places(folder: Path) -> Iterator[Path]:
    """Where the runs of the repository around `folder` are kept."""
    if chosen := defaults()["artifacts"].value:
        yield Path(chosen).expanduser().absolute()
    root = next((path for path in (folder, *folder.parents) if _is_target(path)), folder)
    yield root / CONTRACT_DIR / "artifacts"
    pipeline = read_contract(Repository(root)).pipeline.value
    if pipeline is not None and pipeline.artifacts.out_dir:
        yield root / pipeline.artifacts.out_dir


def _is_target(path: Path) -> bool:
    return (path / "pipeline.yml").is_file() or (path / CONTRACT_DIR).is_dir()


def _runs_in(place: Path) -> Iterator[Path]:
    try:
        names = os.listdir(place)
    except OSError:
        return
    yield from (place / name for name in names if _is_run(place / name))


def _is_run(path: Path) -> bool:
    try:
        return (path / EVENTS).is_file() or (path / RUN).is_file()
    except PermissionError:  # somebody else's
        return False
