from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsmrt.errors import EvidenceError, EvidenceWriteFailed
from fsmrt.evidence.events import MAX_LINE, EventLog, read_events, verify_chain
from fsmrt.evidence.folder import RunFolder
from fsmrt.evidence.redaction import Redactor

FileSizeLimit = Callable[[int], AbstractContextManager[None]]


class Report(msgspec.Struct):
    stage: str
    ok: bool


def ticking(step: float = 0.25) -> Callable[[], float]:
    return itertools.count(100.0, step).__next__


@pytest.fixture
def log(folder: RunFolder) -> Iterator[EventLog]:
    folder.write_new("run.json", b'{"schema":"fsmrt.run.v1"}\n')
    made = EventLog(folder, folder.run_id, ticking())
    yield made
    made.close()


def test_each_event_names_the_line_before(log: EventLog, folder: RunFolder) -> None:
    first = log.append("run_started", {"agent": "none"})
    second = log.append("stage_started", Report("tests", True))
    lines = (folder.path / "events.jsonl").read_bytes().splitlines(keepends=True)
    assert first.prev == hashlib.sha256(b'{"schema":"fsmrt.run.v1"}\n').hexdigest()
    assert second.prev == hashlib.sha256(lines[0]).hexdigest()
    assert log.head == hashlib.sha256(lines[1]).hexdigest()
    assert (first.seq, second.seq, log.next_seq) == (0, 1, 2)
    assert (first.t_ms, second.t_ms) == (250, 500)
    assert second.data == {"stage": "tests", "ok": True}
    assert list(read_events(folder.path)) == [first, second]
    assert verify_chain(folder.path) == []


def test_a_line_is_canonical(log: EventLog, folder: RunFolder) -> None:
    log.append("run_started", {"z": 1, "a": "ü\n"})
    line = (folder.path / "events.jsonl").read_text("utf-8")
    expected = json.dumps(json.loads(line), sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    assert line == expected


def test_time_does_not_go_back(folder: RunFolder) -> None:
    folder.write_new("run.json", b"{}")
    times = iter([10.0, 12.0, 11.0])
    log = EventLog(folder, folder.run_id, lambda: next(times))
    assert [log.append("checkpoint", {}).t_ms for _ in range(2)] == [2000, 2000]
    log.close()
    assert verify_chain(folder.path) == []


def test_an_event_nobody_knows_is_our_bug(log: EventLog) -> None:
    with pytest.raises(ValueError, match="no such event"):
        log.append("party", {})


def test_odd_names_pass_through(log: EventLog, folder: RunFolder) -> None:
    odd = b"\xff".decode("utf-8", "surrogateescape")
    log.append("repair_finished", {"paths": [odd]})
    assert next(read_events(folder.path)).data == {"paths": [odd]}
    assert verify_chain(folder.path) == []


def test_a_payload_too_long_for_a_line_becomes_a_blob(log: EventLog, folder: RunFolder) -> None:
    payload = {"text": "x" * MAX_LINE}
    event = log.append("repair_finished", payload)
    assert log.append("repair_finished", payload).data == event.data
    blob = (folder.path / "blobs" / event.data["blob"]).read_bytes()
    assert hashlib.sha256(blob).hexdigest() == event.data["blob"]
    assert (json.loads(blob), len(blob)) == (payload, event.data["bytes"])
    assert verify_chain(folder.path) == []


def test_secrets_are_redacted_before_they_are_hashed(folder: RunFolder) -> None:
    folder.write_new("run.json", b"{}")
    log = EventLog(folder, folder.run_id, ticking(), redactor=Redactor({"A": "secret-value"}, key=b"k" * 32))
    event = log.append("command_started", {"argv": ["echo", "secret-value"]})
    log.close()
    assert event.data["argv"][1].startswith("<redacted:A:")
    assert b"secret-value" not in (folder.path / "events.jsonl").read_bytes()
    assert verify_chain(folder.path) == []


def test_a_full_disk_leaves_the_log_as_it_was(
    log: EventLog, folder: RunFolder, file_size_limit: FileSizeLimit
) -> None:
    log.append("run_started", {})
    before, head = (folder.path / "events.jsonl").read_bytes(), log.head
    with file_size_limit(len(before) + 10), pytest.raises(EvidenceWriteFailed):
        log.append("run_finished", {"verdict": "no_verdict"})
    assert (folder.path / "events.jsonl").read_bytes() == before
    assert log.head == head
    folder.release_reserve()
    log.append("run_finished", {"reason": "disk_full"})
    assert verify_chain(folder.path) == []


def damaged(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> list[str]:
    events = path / "events.jsonl"
    events.write_bytes(b"".join(change(events.read_bytes().splitlines(keepends=True))))
    return [problem.partition(":")[0] for problem in verify_chain(path)]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda lines: lines[1:], "seq_gap"),
        (lambda lines: [lines[0], lines[2]], "seq_gap"),
        (lambda lines: [lines[1], lines[0], lines[2]], "seq_gap"),
        (lambda lines: [lines[0].replace(b"none", b"nine"), *lines[1:]], "chain_broken"),
        (lambda lines: [lines[0].replace(b",", b", ", 1), *lines[1:]], "not_canonical"),
        (lambda lines: [lines[0], b"{}\n", lines[2]], "torn_middle"),
        (lambda lines: [lines[0], b"\xff\n", lines[2]], "torn_middle"),
        (lambda lines: [lines[0], lines[1].replace(b"event.v1", b"event.v9"), lines[2]], "unknown_schema"),
        (lambda lines: [lines[0], lines[1].replace(b"20250102T", b"20250103T"), lines[2]], "foreign_run_id"),
    ],
)
def test_what_was_changed_shows(
    log: EventLog, folder: RunFolder, change: Callable[[list[bytes]], list[bytes]], code: str
) -> None:
    log.append("run_started", {"agent": "none"})
    log.append("stage_started", {"stage": "tests"})
    log.append("run_finished", {"ok": True})
    assert damaged(folder.path, change)[0] == code


def test_a_changed_run_json_shows(log: EventLog, folder: RunFolder) -> None:
    log.append("run_started", {})
    (folder.path / "run.json").write_bytes(b"{}")
    assert [problem.partition(":")[0] for problem in verify_chain(folder.path)] == ["chain_broken"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_any_changed_byte_shows_before_the_last_line(
    tmp_path_factory: pytest.TempPathFactory, position: int, flip: int
) -> None:
    folder = RunFolder.create(tmp_path_factory.mktemp("place"), "r1")
    folder.write_new("run.json", b"{}")
    log = EventLog(folder, "r1", ticking())
    for number in range(4):
        log.append("stage_started", {"stage": "tests", "attempt": number})
    head = log.head
    log.close()
    folder.close()
    events = folder.path / "events.jsonl"
    data = bytearray(events.read_bytes())
    data[position % len(data)] ^= flip
    events.write_bytes(data)
    kept_head = hashlib.sha256(bytes(data).splitlines(keepends=True)[-1]).hexdigest()
    assert verify_chain(folder.path) or kept_head != head


def test_readers_pass_over_a_torn_tail_at_every_byte(log: EventLog, folder: RunFolder) -> None:
    written = [log.append("stage_started", {"stage": "tests", "n": n}) for n in range(3)]
    events = folder.path / "events.jsonl"
    data = events.read_bytes()
    ends = [0, *itertools.accumulate(len(line) for line in data.splitlines(keepends=True))]
    for size in range(len(data) + 1):
        events.write_bytes(data[:size])
        whole = sum(end <= size for end in ends) - 1
        assert list(read_events(folder.path)) == written[:whole]
        assert verify_chain(folder.path) == []


def test_damage_before_the_tail_is_not_read_over(log: EventLog, folder: RunFolder) -> None:
    log.append("run_started", {})
    events = folder.path / "events.jsonl"
    events.write_bytes(b"garbage\n" + events.read_bytes())
    with pytest.raises(EvidenceError, match=r"events\.jsonl:1"):
        list(read_events(events))
