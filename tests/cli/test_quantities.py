"""Durations and sizes, read and shown."""

from __future__ import annotations

import argparse
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmrt.cli.quantities import clock, counted, duration, seconds, size


@pytest.mark.parametrize(
    ("text", "value"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("500ms", 0.5), (" 5 m ", 300)]
)
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("500", 500), ("64k", 65536), ("10MiB", 10 << 20), ("1 GB", 10**9), ("2g", 2 << 30), ("1.5K", 1536)],
)
def test_sizes(text: str, value: int) -> None:
    assert size(text) == value


@pytest.mark.parametrize("read", [seconds, size])
@pytest.mark.parametrize("text", ["", "0", "-1", "5x", "m", "1e3", "nan", "inf", "\u0661", "9" * 400])
def test_what_is_no_quantity(read: type, text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        read(text)


@given(st.text(max_size=12))
def test_no_text_breaks_the_readers(text: str) -> None:
    for read in (seconds, size):
        with suppress(argparse.ArgumentTypeError):
            assert read(text) > 0


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.00s"), (9.994, "9.99s"), (9.996, "10.0s"), (59.96, "1m00s"), (245, "4m05s"), (7380, "2h03m")],
)
def test_durations_for_people(value: float, text: str) -> None:
    assert duration(value) == text


def test_clocks_and_counts() -> None:
    assert [clock(7.9), clock(723), clock(3723)] == ["0:07", "12:03", "1:02:03"]
    assert [counted(1, "command"), counted(2, "command")] == ["1 command", "2 commands"]
