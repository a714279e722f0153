from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsmrt.errors import EvidenceWriteFailed
from fsmrt.evidence.folder import RunFolder
from fsmrt.evidence.redaction import Redactor
from fsmrt.evidence.spool import HEAD_TEXT, SHRUNK, TAIL_TEXT, Spool, StreamBudget, StreamFacts, gap

FileSizeLimit = Callable[[int], AbstractContextManager[None]]


class Unredacted:
    """Lets everything through at once, so that a test sees the spool alone."""

    def feed(self, data: bytes, /) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


def spooled(
    folder: RunFolder,
    rel: str,
    pieces: list[bytes],
    *,
    head: int,
    tail: int,
    budget: StreamBudget | None = None,
) -> StreamFacts:
    spool = Spool(folder, rel, Unredacted(), head=head, tail=tail, budget=budget)
    for piece in pieces:
        spool.write(piece)
    return spool.close()


def test_an_empty_stream_has_a_file(folder: RunFolder) -> None:
    spool = Spool(folder, "stdout.txt", Unredacted())
    facts = spool.close()
    assert facts == StreamFacts("stdout.txt", 0, 0, 0, 0, hashlib.sha256(b"").hexdigest())
    assert folder.read("stdout.txt") == b""
    assert (spool.head_text, spool.tail_text, spool.truncated) == ("", "", False)
    assert spool.close() is facts


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.lists(st.binary(max_size=30), max_size=12),
    head=st.integers(1, 40),
    tail=st.integers(1, 40),
)
def test_first_and_last_are_kept_and_the_rest_is_counted(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], head: int, tail: int
) -> None:
    data = b"".join(pieces)
    with RunFolder.create(tmp_path_factory.mktemp("place"), "r1") as folder:
        facts = spooled(folder, "s", pieces, head=head, tail=tail)
        kept = folder.read("s")
    omitted = max(0, len(data) - head - tail)
    first, last = data[:head], data[head:][-tail:]
    assert kept == (first + gap(omitted) + last if omitted else data)
    assert facts.sha256 == hashlib.sha256(kept).hexdigest()
    assert (facts.bytes_total, facts.bytes_head) == (len(data), len(first))
    assert (facts.bytes_tail, facts.bytes_omitted) == (len(last), omitted)


def test_the_file_of_a_stream_only_grows_and_has_no_second_one(folder: RunFolder) -> None:
    spool = Spool(folder, "s", Unredacted(), head=10, tail=10)
    spool.write(b"0123456789abcdefghijklmnopqrstuvwxyz")
    assert folder.read("s") == b"0123456789"
    assert sorted(os.listdir(folder.path)) == ["lock", "s"]
    before = folder.checkpoint_files()["s"]
    facts = spool.close()
    assert before.sha256 == hashlib.sha256(folder.read("s")[: before.bytes]).hexdigest()
    assert folder.checkpoint_files()["s"].sha256 == facts.sha256
    assert folder.read("s") == b"0123456789\n[fsmrt: 16 bytes omitted]\nqrstuvwxyz"


def test_a_secret_split_over_writes_reaches_neither_head_nor_tail(
    folder: RunFolder, open_files: None
) -> None:
    redactor = Redactor({"TOKEN_OF_MINE": "secret-value"}, key=b"k" * 32)
    spool = Spool(folder, "s", redactor.stream("s"), head=200, tail=200)
    for byte in b"a secret-value\n" * 100:
        spool.write(bytes([byte]))
    facts = spool.close()
    assert b"secret-value" not in folder.read("s")
    assert b"<redacted:TOKEN_OF_MINE:" in folder.read("s")
    assert facts.bytes_total == 1500
    assert facts.bytes_head + facts.bytes_tail + facts.bytes_omitted == 100 * len(
        "a <redacted:TOKEN_OF_MINE:01234567>\n"
    )


def test_short_output_is_shown_whole_and_divided_between_characters(folder: RunFolder) -> None:
    for lead in range(4):
        text = "x" * lead + "€" * 8000
        spool = Spool(folder, f"s{lead}", Unredacted())
        spool.write(text.encode())
        spool.close()
        assert spool.head_text + spool.tail_text == text
        assert HEAD_TEXT - 3 <= len(spool.head_text.encode()) <= HEAD_TEXT
        assert not spool.truncated


def test_long_output_is_shown_from_both_ends(folder: RunFolder) -> None:
    spool = Spool(folder, "s", Unredacted())
    spool.write(b"first " + b"\xff" * 100_000 + b" last")
    spool.close()
    assert spool.truncated
    assert spool.head_text.startswith("first �")
    assert spool.tail_text.endswith("� last")
    assert (len(spool.head_text), len(spool.tail_text)) == (HEAD_TEXT, TAIL_TEXT)


def test_a_run_that_spent_its_budget_keeps_little_of_each_stream(folder: RunFolder) -> None:
    budget = StreamBudget(4 * SHRUNK)
    wide = {"head": 2 * SHRUNK, "tail": 2 * SHRUNK}
    data = b"x" * (5 * SHRUNK)
    first = spooled(folder, "first", [data], budget=budget, **wide)
    second = spooled(folder, "second", [data[:100], data], budget=budget, **wide)
    assert (first.bytes_head, first.bytes_tail) == (2 * SHRUNK, 2 * SHRUNK)
    assert (second.bytes_head, second.bytes_tail) == (SHRUNK, SHRUNK)
    assert second.bytes_omitted == len(data) + 100 - 2 * SHRUNK


def test_a_tail_gives_back_what_it_did_not_fill(folder: RunFolder) -> None:
    budget = StreamBudget(4 * SHRUNK)
    spooled(folder, "s", [b"x" * (SHRUNK + 10)], head=SHRUNK, tail=2 * SHRUNK, budget=budget)
    assert not budget.take(3 * SHRUNK)
    assert budget.take(3 * SHRUNK - 10)


def test_a_full_disk_ends_the_stream_and_leaves_nothing_open(
    folder: RunFolder, file_size_limit: FileSizeLimit, open_files: None
) -> None:
    spool = Spool(folder, "s", Unredacted(), head=10, tail=100)
    with file_size_limit(20):
        spool.write(b"0123456789")
        with pytest.raises(EvidenceWriteFailed) as raised:
            spool.write(b"x" * 30)
        with pytest.raises(EvidenceWriteFailed):
            spool.close()
    assert raised.value.errno == errno.EFBIG
    assert folder.read("s").startswith(b"0123456789")


def test_memory_does_not_grow_with_the_stream(folder: RunFolder) -> None:
    import tracemalloc

    spool = Spool(folder, "s", Redactor(key=b"k" * 32).stream("s"), head=1 << 20, tail=1 << 20)
    block = b"y\n" * 32_768
    tracemalloc.start()
    for _ in range(100):
        spool.write(block)
    spool.close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
