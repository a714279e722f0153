from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmrt.contract.spelling import edit_distance, nearest

WORDS = ["timeout_seconds", "retries", "env", "workdir", "cmds", "cmd"]


@pytest.mark.parametrize(
    ("left", "right", "edits"),
    [
        ("", "", 0),
        ("", "ab", 2),
        ("env", "env", 0),
        ("env", "evn", 2),
        ("cmds", "cmd", 1),
        ("kitten", "sitting", 3),
    ],
)
def test_edits(left: str, right: str, edits: int) -> None:
    assert edit_distance(left, right) == edits


@given(st.text("abc", max_size=6), st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_it_is_a_distance(a: str, b: str, c: str) -> None:
    assert edit_distance(a, b) == edit_distance(b, a)
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("timout_seconds", "timeout_seconds"),
        ("retrys", "retries"),
        ("cmdss", "cmds"),
        ("steps", None),
        ("x" * 9999, None),
    ],
)
def test_the_nearest_word(word: str, meant: str | None) -> None:
    assert nearest(word, WORDS) == meant


@given(st.text("ab", max_size=6), st.text("ab", max_size=6), st.integers(0, 4))
def test_a_limit_only_saves_time(left: str, right: str, limit: int) -> None:
    edits = edit_distance(left, right, limit)
    assert edits == edit_distance(left, right) or min(edits, edit_distance(left, right)) > limit
