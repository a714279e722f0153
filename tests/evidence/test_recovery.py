from __future__ import annotations

import hashlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from fsmrt.errors import EvidenceError, EvidenceWriteFailed
from fsmrt.evidence.events import EventLog, read_events, verify_chain
from fsmrt.evidence.folder import RunFolder
from fsmrt.evidence.recovery import recover
from fsmrt.lease import Owner, boot_id, this_process

FileSizeLimit = Callable[[int], AbstractContextManager[None]]
NOW = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
DEAD = Owner(pid=2**22 + 1, start_time=1, boot_id=boot_id())


def dead_run(place: Path, *, events: int = 3, owner: Owner = DEAD) -> Path:
    """The folder of a run as a kill leaves it: its lock's file there, nobody holding it."""
    folder = RunFolder.create(place, "r1")
    folder.write_new("run.json", b"{}")
    log = EventLog(folder, "r1", itertools.count().__next__)
    for number in range(events):
        log.append("stage_started", {"stage": "tests", "n": number})
    log.close()
    folder.abandon()
    (folder.path / "lock").write_bytes(msgspec.json.encode(owner))
    return folder.path


def test_a_kill_at_every_byte_is_recovered_once(tmp_path: Path, open_files: None) -> None:
    original = (dead_run(tmp_path / "original") / "events.jsonl").read_bytes()
    run = dead_run(tmp_path)
    events = run / "events.jsonl"
    for size in range(len(original) + 1):
        events.write_bytes(original[:size])
        (run / "lock").write_bytes(msgspec.json.encode(DEAD))
        fragment = original[:size].rpartition(b"\n")[2]
        recovered = recover(run, now=NOW)
        assert recovered is not None
        assert (recovered.dropped_bytes, recovered.problems) == (len(fragment), ())
        assert recovered.dropped_sha256 == hashlib.sha256(fragment).hexdigest()
        assert verify_chain(run) == []
        *_, last = read_events(run)
        assert (last.type, last.data["dropped_bytes"]) == ("run_recovered", len(fragment))
        assert last.data["recovered_at"] == "2025-01-02T03:04:05+00:00"
        assert not (run / "lock").exists()
        after = events.read_bytes()
        assert recover(run, now=NOW) is None
        assert events.read_bytes() == after
    assert not (run / "verdict.json").exists()


def test_a_recovery_killed_between_its_steps_is_finished_by_the_next(tmp_path: Path) -> None:
    run = dead_run(tmp_path)
    events = run / "events.jsonl"
    whole = events.read_bytes()
    events.write_bytes(whole + b"x" * 2000)
    assert recover(run, now=NOW) is not None
    closed = events.read_bytes()
    # Its line was written over the fragment, and nothing was cut yet.
    events.write_bytes(closed + b"x" * (len(whole) + 2000 - len(closed)))
    (run / "lock").write_bytes(msgspec.json.encode(DEAD))
    assert recover(run, now=NOW) is None
    assert events.read_bytes() == closed
    assert not (run / "lock").exists()


@pytest.mark.parametrize("damage", [b"garbage\n", b"{}\n"])
def test_damage_elsewhere_is_told_and_never_repaired(tmp_path: Path, damage: bytes) -> None:
    run = dead_run(tmp_path)
    events = run / "events.jsonl"
    lines = events.read_bytes().splitlines(keepends=True)
    broken = lines[0] + damage + lines[2] + b"torn"
    events.write_bytes(broken)
    for _ in range(2):
        recovered = recover(run, now=NOW)
        assert recovered is not None
        assert recovered.problems[0].startswith("torn_middle: line 2")
        assert events.read_bytes() == broken
        assert (run / "lock").exists()


def test_a_run_that_lives_is_left_alone(tmp_path: Path, open_files: None) -> None:
    folder = RunFolder.create(tmp_path, "r1")
    folder.write_new("run.json", b"{}")
    assert recover(folder.path, now=NOW) is None
    assert (folder.path / "lock").exists()
    folder.close()
    # And so is one whose lock is free although its process runs.
    run = dead_run(tmp_path / "other", owner=this_process())
    before = (run / "events.jsonl").read_bytes()
    assert recover(run, now=NOW) is None
    assert (run / "events.jsonl").read_bytes() == before


def test_a_run_of_another_boot_is_dead(tmp_path: Path) -> None:
    here = this_process()
    run = dead_run(tmp_path, owner=msgspec.structs.replace(here, boot_id="0" * 36))
    assert recover(run, now=NOW) is not None


def test_a_run_that_ended_only_loses_its_lock(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "r1")
    folder.write_new("run.json", b"{}")
    log = EventLog(folder, "r1", itertools.count().__next__)
    log.append("run_finished", {"ok": True})
    log.close()
    folder.abandon()
    (folder.path / "lock").write_bytes(msgspec.json.encode(DEAD))
    before = (folder.path / "events.jsonl").read_bytes()
    assert recover(folder.path, now=NOW) is None
    assert (folder.path / "events.jsonl").read_bytes() == before
    assert not (folder.path / "lock").exists()


def test_a_run_that_had_not_begun_has_no_record(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "r1")
    folder.abandon()
    (folder.path / "lock").write_bytes(msgspec.json.encode(DEAD))
    assert recover(folder.path, now=NOW) is None
    assert os.listdir(folder.path) == []


def test_one_killed_before_its_first_event_gets_one(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "r1")
    folder.write_new("run.json", b"{}")
    folder.abandon()
    (folder.path / "lock").write_bytes(msgspec.json.encode(DEAD))
    assert recover(folder.path, now=NOW) is not None
    assert [event.type for event in read_events(folder.path)] == ["run_recovered"]
    assert verify_chain(folder.path) == []


def test_a_disk_that_is_full_can_be_recovered_later(tmp_path: Path, file_size_limit: FileSizeLimit) -> None:
    run = dead_run(tmp_path)
    size = (run / "events.jsonl").stat().st_size
    with file_size_limit(size + 10), pytest.raises(EvidenceWriteFailed):
        recover(run, now=NOW)
    assert (run / "lock").exists()
    assert recover(run, now=NOW) is not None
    assert verify_chain(run) == []


def test_a_lock_that_says_nothing_is_reported(tmp_path: Path, open_files: None) -> None:
    run = dead_run(tmp_path)
    (run / "lock").write_bytes(b"")
    with pytest.raises(EvidenceError):
        recover(run, now=NOW)


def test_a_runner_killed_in_earnest(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time; from pathlib import Path\n"
        "from fsmrt.evidence.events import EventLog; from fsmrt.evidence.folder import RunFolder\n"
        "folder = RunFolder.create(Path(sys.argv[1]), 'r1'); folder.write_new('run.json', b'{}')\n"
        "log = EventLog(folder, 'r1', time.monotonic)\n"
        "for n in range(100): log.append('stage_started', {'stage': 'tests', 'n': n})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert recover(tmp_path / "r1", now=NOW) is not None
    assert len(list(read_events(tmp_path / "r1"))) == 101
    assert verify_chain(tmp_path / "r1") == []


@pytest.mark.parametrize("name", ["run.json", "events.jsonl"])
def test_a_named_pipe_in_place_of_a_file_is_told_and_never_waited_for(tmp_path: Path, name: str) -> None:
    path = dead_run(tmp_path)
    (path / name).unlink()
    os.mkfifo(path / name)

    with pytest.raises(EvidenceError, match="not a regular file"):
        recover(path, now=NOW)
    assert (path / "lock").exists()
