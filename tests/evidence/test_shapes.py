"""Whatever is looked at first to rule a shape out, no match may be lost by it."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fsmrt.evidence.shapes import SHAPES, Shape, find_shapes, has_each

PARTS = [
    b"AKIA" + b"Q7" * 8,
    b"AIza" + b"a1_-B" * 7,
    b"ghp_" + b"aB3" * 12,
    b"github_pat_" + b"aB_3" * 8,
    b"sk-" + b"aB3-" * 6,
    b"xoxb-123456789012",
    b"rk_test_" + b"aB3d" * 5,
    b"eyJhbGci.eyJzdWIi.c2ln",
    b"Bearer ",
    b"https://",
    b"me:hunter2@",
    b"?Key=",
    b"&x-amz-sig=",
    b"Token",
    b"client_secret",
    b"PASSWORD",
    b"access-key",
    b'": "',
    b" := ",
    b"=",
    b"0123456789abcdefghij",
    b"k",
    b"x",
    b"-",
    b"\n",
]
PADDING = [b"", b"a line without anything\n" * 200, b"?&xIJz" * 800, b"k-k_keykensk" * 400]
"""None; enough to count as large; what makes rare bytes common; what looks like beginnings."""


def plainly_found(text: bytes) -> set[tuple[int, int, str, int]]:
    """Every match of every shape, with nothing ruled out before."""
    return {
        (match.start(group) - (0 if group else shape.back), match.end(group), shape.rule, begin)
        for shape in SHAPES
        for match in shape.pattern.finditer(text.lower() if shape.folded else text)
        for group, begin in [(match.lastindex or 0, match.start() - shape.back)]
    }


@pytest.mark.parametrize("padding", PADDING, ids=["small", "large", "rare bytes", "beginnings"])
@given(parts=st.lists(st.sampled_from(PARTS), max_size=12))
@example(parts=[b"sk-" + b"aB3-" * 6])
@example(parts=[b"?Key=", b"0123456789abcdefghij", b"?Key=", b"0123456789abcdefghij"])
@example(parts=[b"?Key=", b"x", b"?Key=", b"0123456789abcdefghij"])
def test_nothing_that_matches_is_ruled_out(padding: bytes, parts: list[bytes]) -> None:
    text = padding + b"".join(parts)
    assert {span[:4] for span in find_shapes(text)} == plainly_found(text)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.rule} {shape.anchor.decode()}")
def test_every_match_has_what_its_shape_cannot_do_without(shape: Shape) -> None:
    """The padding of single bytes makes each part a match somewhere; each of them is held to the promises."""
    seen = 0
    for first in PARTS:
        for second in PARTS:
            text = b" " + first + second + b'0123456789abcdefghij" '
            folded = text.lower() if shape.folded else text
            for match in re.finditer(shape.pattern, folded):
                seen += 1
                assert match[0].startswith(shape.anchor)
                around = folded[match.start() - shape.back : match.end()]
                assert has_each(around, shape.needs)
                assert not shape.needs_any or any(byte in around for byte in shape.needs_any)
                assert not shape.rare or shape.anchor.count(shape.rare) >= 1
    assert seen
