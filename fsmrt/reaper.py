"""Finds and ends what dead runs left: their processes, control groups and unfinished records.

Whatever can outlive us is named in a lease that also names its holder. A lease whose holder is gone is the
reaper's; a live one is never touched. Every start of a run sweeps, and `fsmrt gc` does on demand. All of it is
synchronous and idempotent: two sweeps at once do no harm. Call it from a worker thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from .errors import EvidenceError
from .evidence.recovery import recover
from .lease import Lease, boot_id, dead_leases, discard
from .messages import Ended
from .sandbox.cgroup import (
    abandoned_groups,
    group_members,
    group_name,
    group_populated,
    kill_group,
    own_group,
    remove_group,
)
from .sandbox.procfs import ProcessFacts, age_seconds, command_line, read_facts
from .sandbox.walk import Tree, run_marks

PROOF_SECONDS = 5.0


class Reaped(msgspec.Struct, frozen=True, kw_only=True):
    """What one dead run had left, and what became of it."""

    run_id: str
    run_dir: str
    ended: tuple[Ended, ...] = ()
    recovered: bool = False
    leaks: tuple[str, ...] = ()

    @property
    def remark(self) -> str:
        """What a later run says of this one."""
        closed = "its record closed" if self.recovered else "its record left as it was"
        left = "".join(f"; {leak}" for leak in self.leaks)
        return f"reaped: run {self.run_id} had died; processes ended: {len(self.ended)}; {closed}{left}"


def sweep(state_dir: Path) -> list[Reaped]:
    """Clean up after every dead run, and remove the empty groups of services that outlived theirs."""
    reaped = [reap(state_dir, lease) for lease in dead_leases(state_dir)]
    remove_abandoned_groups()
    return reaped


def reap(state_dir: Path, lease: Lease) -> Reaped:
    """Clean up after one dead run. Its lease goes last, and only if nothing is left to find by it.

    A record that was damaged is reported, once: no later sweep could mend it.
    """
    ended, leaks = _end_processes(lease) if lease.boot_id == boot_id() else ([], [])
    recovered, trouble = _recover_record(lease)
    if not leaks:
        discard(state_dir, lease)
    leaks += trouble
    return Reaped(
        run_id=lease.run_id,
        run_dir=lease.run_dir,
        ended=tuple(ended),
        recovered=recovered,
        leaks=tuple(leaks),
    )


def _end_processes(lease: Lease) -> tuple[list[Ended], list[str]]:
    group = _group_of(lease)
    tree = Tree(run_marks(lease.run_id))
    found = {facts.pid: facts for facts in [*_in_group(group), *tree.members()]}
    described = {pid: command_line(pid) for pid in found}
    gone = _kill_until_gone(group, tree)
    leaks = [] if gone else [f"processes of run {lease.run_id} could not be ended"]
    if group is not None and group.exists() and not remove_group(group):
        leaks.append(f"control group {group} could not be removed")
    return [_ended(facts, described[pid]) for pid, facts in found.items()], leaks


def _group_of(lease: Lease) -> Path | None:
    """The run's group. A run that died before its lease could name it has one of the name it would have got."""
    name = group_name(lease.run_id, lease.owner)
    if lease.cgroup is not None and Path(lease.cgroup).name == name:  # a lease can name no other run's group
        return Path(lease.cgroup)
    parent = own_group()
    return None if parent is None else parent / name


def _in_group(group: Path | None) -> Iterator[ProcessFacts]:
    for pid in group_members(group) if group is not None else ():
        facts = read_facts(pid)
        if facts is not None and facts.alive:
            yield facts


def _kill_until_gone(group: Path | None, tree: Tree) -> bool:
    deadline, pause = time.monotonic() + PROOF_SECONDS, 0.0005
    while time.monotonic() < deadline:
        if group is not None:
            kill_group(group)
        nobody = tree.kill_round()
        if nobody and (group is None or not group_populated(group)) and tree.proven_empty():
            return True
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    return False


def _ended(facts: ProcessFacts, command: str) -> Ended:
    return Ended(
        pid=facts.pid,
        command=command,
        age_seconds=round(age_seconds(facts.start_ticks), 3),
        how="leaked" if _still_there(facts) else "killed",
    )


def _still_there(facts: ProcessFacts) -> bool:
    now = read_facts(facts.pid)
    return now is not None and now.alive and now.start_ticks == facts.start_ticks


def _recover_record(lease: Lease) -> tuple[bool, list[str]]:
    run_dir = Path(lease.run_dir)
    if not run_dir.is_dir():
        return False, []
    try:
        recovered = recover(run_dir, now=datetime.now(UTC))
    except (EvidenceError, OSError) as error:
        return False, [f"the record {run_dir} could not be closed: {error}"]
    return recovered is not None, [f"{run_dir}: {text}" for text in recovered.problems] if recovered else []


def remove_abandoned_groups() -> list[Path]:
    """Empty groups of dead runs without a lease: left behind by services that ended later than their run."""
    parent = own_group()
    return [group for group in abandoned_groups(parent) if remove_group(group)] if parent is not None else []
