"""What a secret looks like: the closed, versioned list of shapes, found in bytes without knowing any value.

Nearly all output holds no secret, so the cost is that of *not* finding one. Every shape has bytes it cannot do
without, whose absence from a block costs next to nothing to establish, and a literal anchor which the expression
starts with, because the literal search of `bytes.find` is ten times faster than any expression. Boundaries are
therefore checked *after* the anchor, by a look behind over it. No expression takes more than linear time: each
either starts at a boundary, so that a run of characters is tried once, or is bounded.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

RULES_VERSION = "fsmrt.shapes.v1"
MAX_PEM = 60 * 1024  # a key file is a tenth of it; a stream holds back this much to see its end
_UNDECIDED = 640  # within so many bytes every shape but a JWT matches, or shows that it will not


class Span(NamedTuple):
    """A stretch of bytes that must not be kept, and the rule that says so."""

    start: int
    end: int
    rule: str
    begin: int
    """Where the match began that found it: at the name before a value, for one."""
    placeholder: bytes = b""
    """What stands for a known value; a shape's is made from the bytes themselves."""


class Shape(msgspec.Struct, frozen=True):
    rule: str
    anchor: bytes
    """The literal with which `pattern` begins."""
    pattern: re.Pattern[bytes]
    """Its last group that matched is the secret; without groups, all of it."""
    needs: bytes = b""
    """Each of these bytes stands in every match."""
    needs_any: bytes = b""
    """One of these bytes stands in every match."""
    folded: bool = False
    """Look at a lower-case copy of the text."""
    back: int = 0
    """The match begins so many bytes before its anchor."""


class Pem(NamedTuple):
    spans: list[Span]
    open_from: int | None
    """Where a block begins whose end has not come."""


_ALNUM = "[0-9A-Za-z]"
_QUOTE = r"""\\{0,3}["']"""
_SEPARATOR = r"[ \t]{0,8}(?::=|=>|[:=])[ \t]{0,8}"
_QUOTED = rf"""{_QUOTE}([^"'\r\n<>\\]{{6,}})"""
_BARE = r"""([^\s"'<>&,;]{6,})"""
# token = value, token: "a value"; or, as JSON has it, "token": "a value" and then nothing but a quoted value
_ASSIGNED = rf"(?:{_SEPARATOR}(?:{_QUOTED}|{_BARE})|{_QUOTE}\]?{_SEPARATOR}{_QUOTED})"
_KEY_OF = "(?:(?<=api[_ -]key)|(?<=apikey)|(?<=access[_ -]key)|(?<=accesskey)|(?<=secret[_ -]key))"


def _token(rule: str, anchor: str, rest: str, needs: str = "") -> Shape:
    """A shape that stands for itself wherever a word may begin."""
    pattern = f"{anchor}(?<!{_ALNUM}{anchor}){rest}"
    return Shape(rule, anchor.encode(), re.compile(pattern.encode()), _bytes_of(anchor + needs))


def _bytes_of(text: str) -> bytes:
    return bytes(sorted(set(text.encode())))


def _assignment(anchor: str, rest: str) -> Shape:
    pattern = re.compile(f"{anchor}{rest}{_ASSIGNED}".encode())
    return Shape("assignment", anchor.encode(), pattern, needs_any=b"=:", folded=True)


def _query(mark: str) -> Shape:
    names = "(?:x-amz-)?(?:key|sig|sign|signature|auth)"
    pattern = re.compile(rf"""{re.escape(mark)}{names}=([^\s&#"'<>]{{6,}})""".encode())
    return Shape("query", mark.encode(), pattern, needs=b"=", folded=True)


SHAPES: tuple[Shape, ...] = (
    _token("aws_key", "A", rf"[KS]IA[0-9A-Z]{{16}}(?!{_ALNUM})", needs="I"),
    _token("google_key", "AIza", "[0-9A-Za-z_-]{35}"),
    _token("github_token", "gh", f"[pousr]_{_ALNUM}{{20,}}", needs="_"),
    _token("github_token", "github_pat_", "[0-9A-Za-z_]{22,}"),
    _token("openai_key", "sk-", "[0-9A-Za-z_-]{20,}", needs="-"),
    _token("slack_token", "xox", "[abeoprs]-[0-9A-Za-z-]{10,}", needs="-"),
    Shape(
        "stripe_key",
        b"k_",
        re.compile(f"k_(?:(?<=sk_)|(?<=rk_))(?<!{_ALNUM}.k_)(?:live|test)_{_ALNUM}{{16,}}".encode()),
        needs=b"_k",
        back=1,
    ),
    Shape("jwt", b"eyJ", re.compile(rb"eyJ(?<![\w-]eyJ)[\w-]{5,}\.[\w-]{5,}\.[\w-]*"), needs=b".eyJ"),
    Shape(
        "bearer",
        b"bearer",
        re.compile(rb"bearer[ \t]{1,8}([0-9a-z._~+/-]{20,}=*)"),
        needs_any=b" \t",
        folded=True,
    ),
    Shape(
        "url_password",
        b"://",
        re.compile(rb"""://[^\s/?#@:<>"']{0,256}:([^\s/?#@<>"']{1,256})@"""),
        needs=b"@:/",
    ),
    _query("?"),
    _query("&"),
    _assignment("token", ""),
    _assignment("secret", ""),
    _assignment("passw", "(?:or)?d"),
    _assignment("key", _KEY_OF),
)
SHAPE_NAMES = frozenset(shape.rule for shape in SHAPES) | {"pem", "argv", "member"}

_CREDENTIAL = re.compile(r"(?i)(?:token|secret(?:[_ -]?key)?|passw(?:or)?d|(?:api|access)[_ -]?key)\]?\Z")
_PEM_BEGIN = re.compile(rb"-----BEGIN (?:[0-9A-Z]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(rb"-----END (?:[0-9A-Z]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_PEM_BODY = re.compile(rb"(?:[0-9A-Za-z+/=\s]|\\[nr])*")
_TOKEN_BYTES = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-."


_SMALL = 4096
"""Below this size a folded copy costs nothing, and most shapes are ruled out by one search in it."""
_FOLDED_ANCHORS = tuple((shape.anchor.lower(), shape) for shape in SHAPES)


def is_credential_name(name: str) -> bool:
    """Whether a value of this name is a secret whatever it looks like, as a JSON member or a flag."""
    return _CREDENTIAL.search(name) is not None


def find_shapes(text: bytes) -> list[Span]:
    """Every stretch that looks like a secret, by shape; they may overlap. PEM blocks are `find_pem`'s."""
    spans: list[Span] = []
    folded: bytes | None = None
    for shape in _thinkable(text) if len(text) < _SMALL else SHAPES:
        if not _possible(shape, text):
            continue
        if shape.folded and folded is None:
            folded = text.lower()
        spans += _matches(shape, folded if shape.folded and folded is not None else text)
    return spans


def _thinkable(text: bytes) -> list[Shape]:
    folded = text.lower()
    return [shape for anchor, shape in _FOLDED_ANCHORS if anchor in folded]


def _possible(shape: Shape, text: bytes) -> bool:
    if shape.needs_any and not any(byte in text for byte in shape.needs_any):
        return False
    for byte in shape.needs:  # noqa: SIM110 - a generator costs more than the search it saves
        if byte not in text:
            return False
    return True


def _matches(shape: Shape, text: bytes) -> Iterator[Span]:
    first = text.find(shape.anchor)
    if first < 0:
        return
    for match in shape.pattern.finditer(text, first):
        start, end = match.span(match.lastindex or 0)
        if match.lastindex is None:
            start -= shape.back
        yield Span(start, end, shape.rule, match.start() - shape.back)


def find_pem(text: bytes) -> Pem:
    """Private key blocks, from first dash to last; one without an end counts as far as it looks like one."""
    if b"-" not in text or b"Y" not in text or b"PRIVATE KEY" not in text:
        return Pem([], None)
    ends = deque(match.end() for match in _PEM_END.finditer(text))
    spans: list[Span] = []
    open_from, done = None, 0
    for begin in _PEM_BEGIN.finditer(text):
        if begin.start() < done:
            continue
        while ends and ends[0] < begin.end():
            ends.popleft()
        closed = bool(ends) and ends[0] - begin.start() <= MAX_PEM
        done = ends[0] if closed else _body_end(text, begin.end())
        if not closed and not ends and open_from is None:
            open_from = begin.start()
        spans.append(Span(begin.start(), done, "pem", begin.start()))
    return Pem(spans, open_from)


def _body_end(text: bytes, start: int) -> int:
    match = _PEM_BODY.match(text, start, start + MAX_PEM)
    return match.end() if match else start


def undecided_from(text: bytes, spans: Sequence[Span]) -> int:
    """Where, in a line that has not ended, the first secret could begin that more bytes would bring to light."""
    length = len(text)
    candidates = [length - _UNDECIDED + found for found in _late_anchors(text[-_UNDECIDED:], length)]
    candidates += [span.begin for span in spans if span.end == length]
    jwt = text.find(b"eyJ") if b"J" in text else -1
    if jwt >= 0:
        jwt = text.find(b"eyJ", max(jwt, len(text.rstrip(_TOKEN_BYTES))))
    if jwt >= 0:
        candidates.append(jwt)
    return max(0, min(candidates, default=length))


def _late_anchors(tail: bytes, length: int) -> Iterator[int]:
    folded = tail.lower()
    short = _UNDECIDED - len(tail)  # a text shorter than the window begins inside it
    yield short + max(0, len(tail) - _LONGEST_START)
    for shape in SHAPES:
        found = (folded if shape.folded else tail).find(shape.anchor)
        if found >= 0:
            yield short + max(0, found - _BEFORE_ANCHOR)


_BEFORE_ANCHOR = 16  # what a pattern looks at before its anchor: `access_` of `access_key`
_LONGEST_START = 96  # an anchor that is not whole yet, and the header of a PEM block
