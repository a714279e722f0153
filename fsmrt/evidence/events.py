"""The truth of a run: one canonical JSON object a line, each naming the digest of the line before it."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from ..errors import EvidenceError
from .folder import RunFolder
from .identity import canonical_json
from .redaction import Redactor

SCHEMA = "fsmrt.event.v1"
EVENTS = "events.jsonl"
RUN = "run.json"
MAX_LINE = 1024 * 1024

EventType = Literal[
    "run_started",
    "stage_started",
    "stage_finished",
    "command_started",
    "command_finished",
    "policy_decision",
    "repair_started",
    "repair_finished",
    "scaffold_started",
    "scaffold_finished",
    "contract_frozen",
    "contract_changed",
    "check_started",
    "check_finished",
    "candidate_started",
    "candidate_finished",
    "diff_ready",
    "checkpoint",
    "run_finished",
    "run_recovered",
]
EVENT_TYPES: frozenset[str] = frozenset(get_args(EventType))
LAST_TYPES = frozenset({"run_finished", "run_recovered"})
_OPEN_FAMILIES = ("contract_", "check_", "candidate_")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `events.jsonl`."""

    schema: str = SCHEMA
    run_id: str
    seq: int
    t_ms: int
    """Milliseconds since the run began, by a clock that never goes back."""
    type: str
    prev: str
    """SHA-256 of the line before, newline included; for the first event, of `run.json`."""
    data: dict[str, Any]


class EventLog:
    """The one writer of a run's `events.jsonl`. Every append is one write of one whole line."""

    def __init__(
        self, folder: RunFolder, run_id: str, clock: Callable[[], float], *, redactor: Redactor | None = None
    ) -> None:
        """`clock` gives monotonic seconds; `run.json` must have been written, for the chain begins at it."""
        self._folder, self._run_id, self._clock, self._redactor = folder, run_id, clock, redactor
        self._lock = threading.Lock()
        self._started = clock()
        self._head = hashlib.sha256(folder.read(RUN)).hexdigest()
        self._seq = self._t_ms = 0
        self._file = folder.append_file(EVENTS, listed=False)

    @property
    def head(self) -> str:
        """Digest of the last line: whoever keeps it can tell whether anything before it was changed."""
        return self._head

    @property
    def next_seq(self) -> int:
        return self._seq

    def append(self, type: str, data: Mapping[str, Any] | msgspec.Struct) -> Event:  # noqa: A002 - the field's name
        """Write one event and return it as written. `EvidenceWriteFailed` leaves the log as it was before."""
        if not known_type(type):
            raise ValueError(f"no such event: {type}")
        with self._lock:  # a checkpoint is told from a worker thread
            return self._append(type, data)

    def _append(self, type: str, data: Mapping[str, Any] | msgspec.Struct) -> Event:  # noqa: A002
        event = self._next(type, msgspec.to_builtins(data, str_keys=True))
        line = encode_line(event)
        if self._redactor is not None and self._redactor.finds_in_json(line):
            event = msgspec.structs.replace(event, data=self._redactor.json(event.data, member=EVENTS))
            line = encode_line(event)
        if len(line) > MAX_LINE:
            event = msgspec.structs.replace(event, data=self._as_blob(event.data))
            line = encode_line(event)
        self._file.write(line)
        self._head = hashlib.sha256(line).hexdigest()
        self._seq, self._t_ms = self._seq + 1, event.t_ms
        return event

    def sync(self) -> None:
        """Bring every event to disk; the last step of a checkpoint."""
        self._file.sync()

    def close(self) -> None:
        self._file.close()

    def _next(self, type_: str, data: dict[str, Any]) -> Event:
        t_ms = max(self._t_ms, int((self._clock() - self._started) * 1000))
        return Event(run_id=self._run_id, seq=self._seq, t_ms=t_ms, type=type_, prev=self._head, data=data)

    def _as_blob(self, data: dict[str, Any]) -> dict[str, Any]:
        payload = canonical_json(data)
        digest = hashlib.sha256(payload).hexdigest()
        self._folder.makedirs("blobs")
        if not self._folder.has(f"blobs/{digest}"):
            self._folder.write_new(f"blobs/{digest}", payload)
        return {"blob": digest, "bytes": len(payload)}


def known_type(name: str) -> bool:
    return name in EVENT_TYPES or name.startswith(_OPEN_FAMILIES)


def encode_line(event: Event) -> bytes:
    return canonical_json(event) + b"\n"


def decode_line(line: bytes) -> Event:
    """The event of one line; ValueError for anything else."""
    return msgspec.convert(_decode_json(line), Event)


def _decode_json(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if b"\\ud" not in line.lower():
            raise
    return json.loads(line)  # the one decoder that keeps a lone surrogate: the byte of an odd file name


def whole_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file that only grows, newline included; what follows the last newline is not one yet."""
    with open_regular(path) as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line


def open_regular(path: Path) -> BufferedReader:
    """Open a file of a record without ever waiting: what a command put in its place is an `EvidenceError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise EvidenceError(f"{path}: not a regular file")
    return os.fdopen(descriptor, "rb")


def read_events(path: Path) -> Iterator[Event]:
    """The events of `events.jsonl`, or of the run folder that holds it. A torn last line is passed over;
    a damaged one before it is an `EvidenceError`."""
    source = path / EVENTS if path.is_dir() else path
    for number, line in enumerate(whole_lines(source), 1):
        try:
            yield decode_line(line)
        except ValueError as error:
            raise EvidenceError(f"{source}:{number}: {error}") from error


class Chain(msgspec.Struct):
    """How far a log holds together; `check` takes its lines one after the other."""

    head: str
    run_id: str | None = None
    seq: int = 0
    t_ms: int = 0
    size: int = 0
    last_type: str | None = None

    def check(self, line: bytes) -> list[str]:
        """What is wrong with the next line, by stable code; an empty list when it continues the chain."""
        try:
            event = decode_line(line)
        except ValueError as error:
            return [f"torn_middle: line {self.seq + 1}: {error}"]
        problems = [f"{code}: line {self.seq + 1}" for code in self._faults(event, line)]
        self.head, self.run_id = hashlib.sha256(line).hexdigest(), self.run_id or event.run_id
        self.seq, self.t_ms, self.last_type = self.seq + 1, max(self.t_ms, event.t_ms), event.type
        self.size += len(line)
        return problems

    def _faults(self, event: Event, line: bytes) -> Iterator[str]:
        if encode_line(event) != line:
            yield "not_canonical"
        if event.schema != SCHEMA or not known_type(event.type):
            yield "unknown_schema"
        if self.run_id is not None and event.run_id != self.run_id:
            yield "foreign_run_id"
        if event.seq != self.seq:
            yield "seq_gap"
        if event.prev != self.head:
            yield "chain_broken"
        if event.t_ms < self.t_ms:
            yield "time_reversed"


def walk_chain(run_dir: Path) -> tuple[Chain, list[str]]:
    """Follow the chain of a run folder from `run.json` on; stops at the first line that does not continue it."""
    with open_regular(run_dir / RUN) as run:
        chain = Chain(head=hashlib.file_digest(run, "sha256").hexdigest())
    try:
        for line in whole_lines(run_dir / EVENTS):
            if problems := chain.check(line):
                return chain, problems
    except FileNotFoundError:
        pass  # the run was killed before its first event: an empty chain holds
    return chain, []


def verify_chain(run_dir: Path) -> list[str]:
    """Why the events of a run folder are not what was written, one line each; empty when they are."""
    return walk_chain(run_dir)[1]
