"""What a command prints, on disk: the first and the last of it, redacted, with what was left out counted.

The head goes into the stream's file as it comes. Once that is full the rest goes round in a ring, a file without
a name, and joins the stream's file behind a marked gap when the stream closes. So the file under the stream's
name only ever grows, and a runner that is killed leaves the head and no second file. `sha256` is that of the
file as kept, gap marker included, which `sha256sum` confirms: bytes that were left out are counted, not hashed.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol

import msgspec

from ..errors import EvidenceWriteFailed
from .files import AppendFile
from .folder import RunFolder

MIB = 1024 * 1024
HEAD = TAIL = 32 * MIB
RUN_STREAMS = 1024 * MIB
SHRUNK = 64 * 1024  # what a stream may keep at either end once its run's budget is spent
HEAD_TEXT, TAIL_TEXT = 8 * 1024, 56 * 1024  # what a result shows
_COPY = 256 * 1024


class StreamRedaction(Protocol):
    """What a spool asks of its redactor; `redaction.StreamRedactor` is one."""

    def feed(self, data: bytes, /) -> bytes: ...

    def finish(self) -> bytes: ...


class StreamFacts(msgspec.Struct, frozen=True):
    """What became of a stream. `bytes_total` counts what the command printed; the three parts, once redacted, add
    up to all of the redacted stream."""

    path: str
    bytes_total: int
    bytes_head: int
    bytes_tail: int
    bytes_omitted: int
    sha256: str


class StreamBudget:
    """How much of its streams one run keeps; every spool of the run takes from the same one."""

    def __init__(self, total: int = RUN_STREAMS) -> None:
        self._left, self._lock = total, threading.Lock()

    def take(self, size: int) -> bool:
        """Take `size` bytes, or nothing."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give_back(self, size: int) -> None:
        with self._lock:
            self._left += size


class Spool:
    """One stream of one command; one pump writes it. Every failure to write is an `EvidenceWriteFailed`."""

    def __init__(
        self,
        folder: RunFolder,
        rel: str,
        redactor_stream: StreamRedaction,
        *,
        head: int = HEAD,
        tail: int = TAIL,
        budget: StreamBudget | None = None,
    ) -> None:
        self.rel = rel
        self._folder, self._redactor, self._budget = folder, redactor_stream, budget
        self._head_limit, self._tail_limit = head, tail
        self._file = folder.append_file(rel)
        self._ring: _Ring | None = None
        self._total = self._head = 0
        self._facts: StreamFacts | None = None
        self.head_text = self.tail_text = ""
        self.truncated = False

    @property
    def bytes_total(self) -> int:
        """What the command has printed so far."""
        return self._total

    def write(self, data: bytes) -> None:
        """Take what the command printed. What the redactor holds back is written by a later call."""
        self._total += len(data)
        if ready := self._redactor.feed(data):
            self._keep(ready)

    def close(self) -> StreamFacts:
        """Write what was held back, join the tail, and tell what was kept. Closing again tells it again."""
        if self._facts is None:
            try:
                if rest := self._redactor.finish():
                    self._keep(rest)
                self._facts = self._join()
                self._show(self._facts)
            finally:
                self._close_files()
        return self._facts

    def _keep(self, data: bytes) -> None:
        if self._ring is None:
            taken = self._head_share(len(data))
            if taken:
                self._file.write(data if taken == len(data) else data[:taken])
                self._head += taken
            if taken == len(data):
                return
            self._ring = self._open_ring()
            data = data[taken:]
        self._ring.write(data)

    def _head_share(self, size: int) -> int:
        size = min(size, self._head_limit - self._head)
        if self._budget is None or self._budget.take(size):
            return size
        return max(0, min(size, SHRUNK - self._head))

    def _open_ring(self) -> _Ring:
        granted = self._tail_limit
        if self._budget is not None and granted > SHRUNK and not self._budget.take(granted):
            granted = SHRUNK
        return _Ring(self._folder.nameless(), granted, self._file.rel)

    def _join(self) -> StreamFacts:
        tail = omitted = 0
        if self._ring is not None:
            tail, omitted = self._ring.kept, self._ring.omitted
            if omitted:
                self._file.write(gap(omitted))
            self._ring.copy_to(self._file)
            self._return_unused(self._ring.capacity - tail)
        return StreamFacts(self._file.rel, self._total, self._head, tail, omitted, self._file.facts().sha256)

    def _return_unused(self, size: int) -> None:
        if self._budget is not None and self._ring is not None and self._ring.capacity > SHRUNK:
            self._budget.give_back(size)

    def _show(self, facts: StreamFacts) -> None:
        size = self._file.size
        self.truncated = bool(facts.bytes_omitted) or size > HEAD_TEXT + TAIL_TEXT
        head = self._file.read(HEAD_TEXT, 0)
        if not self.truncated:
            head = head[: _character_boundary(head, size)]
        tail = self._file.read(TAIL_TEXT, max(len(head), size - TAIL_TEXT))
        self.head_text, self.tail_text = head.decode("utf-8", "replace"), tail.decode("utf-8", "replace")

    def _close_files(self) -> None:
        self._file.close()
        if self._ring is not None:
            self._ring.close()
            self._ring = None


class _Ring:
    """The last `capacity` bytes of what is written, in a file of that size at most."""

    def __init__(self, fd: int, capacity: int, rel: str) -> None:
        self.capacity, self._fd, self._rel = capacity, fd, rel
        self._written = 0

    @property
    def kept(self) -> int:
        return min(self._written, self.capacity)

    @property
    def omitted(self) -> int:
        return self._written - self.kept

    def write(self, data: bytes) -> None:
        skipped = max(0, len(data) - self.capacity)
        self._written += skipped
        rest = memoryview(data)[skipped:]
        try:
            while rest:
                at = self._written % self.capacity
                count = os.pwrite(self._fd, rest[: self.capacity - at], at)
                self._written += count
                rest = rest[count:]
        except OSError as error:
            raise EvidenceWriteFailed(self._rel, error) from error

    def copy_to(self, file: AppendFile) -> None:
        oldest = self._written % self.capacity if self.omitted else 0
        for start, end in ((oldest, self.kept), (0, oldest)):
            while start < end:
                piece = os.pread(self._fd, min(_COPY, end - start), start)
                file.write(piece)
                start += len(piece)

    def close(self) -> None:
        os.close(self._fd)


def gap(omitted: int) -> bytes:
    """What stands in a stream's file where bytes were left out."""
    return b"\n[fsmrt: %d bytes omitted]\n" % omitted


def _character_boundary(head: bytes, size: int) -> int:
    """Where to divide a text that is shown whole, so that no character falls into both halves."""
    if len(head) == size:
        return size
    end = len(head)
    while end > len(head) - 4 and end > 0 and head[end - 1] & 0xC0 == 0x80:
        end -= 1
    return end - 1 if end > 0 and head[end - 1] >= 0xC0 else end
