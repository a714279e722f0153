"""What becomes of a run whose process died: its record is closed where it stopped, once, and nothing is made up."""

from __future__ import annotations

import hashlib
import os
from datetime import datetime
from pathlib import Path

import msgspec

from ..errors import EvidenceWriteFailed
from ..lease import owner_alive
from .events import EVENTS, LAST_TYPES, RUN, Chain, Event, encode_line, walk_chain
from .files import write_whole
from .folder import RunFolder


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """A dead run's record. With `problems` it was damaged elsewhere than at its end, and was left as it is."""

    run_id: str
    dropped_bytes: int = 0
    dropped_sha256: str | None = None
    head: str | None = None
    problems: tuple[str, ...] = ()


def recover(run_dir: Path, *, now: datetime) -> Recovered | None:
    """Close the record of a run whose process is dead; None when there is nothing to do, or somebody lives.

    The torn last line is cut, its size and digest kept in a `run_recovered` event at the end of the chain, and the
    lock goes. Doing it again, or being killed in the middle and doing it again, comes to the same. `now` is the
    wall clock, aware. An unreadable lock is an `EvidenceError`; so is, as `EvidenceWriteFailed`, a full disk.
    """
    folder = RunFolder.open_existing(run_dir)
    done = False
    try:
        owner = folder.lock_owner()
        if owner is None or not folder.try_lock() or owner_alive(owner):
            return None
        recovered = _recover_locked(folder, now)
        done = recovered is None or not recovered.problems
        return recovered
    finally:
        if done:
            folder.close()
        else:
            folder.abandon()  # the lock's file stays for whoever looks next


def _recover_locked(folder: RunFolder, now: datetime) -> Recovered | None:
    if not folder.has(RUN):
        return None  # killed before anything was said: there is no record to close
    chain, problems = walk_chain(folder.path)
    if problems:
        return Recovered(run_id=folder.run_id, problems=tuple(problems))
    fd = folder.open(EVENTS, os.O_RDWR | os.O_CREAT)
    try:
        return _close_record(fd, folder.run_id, chain, now)
    except OSError as error:
        raise EvidenceWriteFailed(str(folder.path / EVENTS), error) from error
    finally:
        os.close(fd)


def _close_record(fd: int, run_id: str, chain: Chain, now: datetime) -> Recovered | None:
    fragment = _fragment(fd, chain.size)
    if chain.last_type in LAST_TYPES:
        os.ftruncate(
            fd, chain.size
        )  # the rest of a fragment that an interrupted recovery had already told of
        os.fsync(fd)
        return None
    digest = hashlib.sha256(fragment).hexdigest()
    line = encode_line(_last_event(run_id, chain, len(fragment), digest, now))
    # Over the fragment first, then cut: killed in between, the chain is whole and says what was dropped.
    os.lseek(fd, chain.size, os.SEEK_SET)
    write_whole(fd, line)
    os.ftruncate(fd, chain.size + len(line))
    os.fsync(fd)
    return Recovered(
        run_id=run_id,
        dropped_bytes=len(fragment),
        dropped_sha256=digest,
        head=hashlib.sha256(line).hexdigest(),
    )


def _closed_before(fd: int, run_id: str, chain: Chain, rest: int) -> Recovered | None:
    """A log that has its last event: what follows it is the rest of a fragment that an earlier recovery told of."""
    if rest and chain.last_type == "run_finished":
        return Recovered(run_id=run_id, problems=(f"torn_middle: {rest} bytes after run_finished",))
    os.ftruncate(fd, chain.size)
    os.fsync(fd)
    return None


def _fragment(fd: int, start: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size - start, start)


def _last_event(run_id: str, chain: Chain, dropped: int, digest: str, now: datetime) -> Event:
    data = {"dropped_bytes": dropped, "dropped_sha256": digest, "recovered_at": now.isoformat()}
    return Event(
        run_id=run_id, seq=chain.seq, t_ms=chain.t_ms, type="run_recovered", prev=chain.head, data=data
    )
