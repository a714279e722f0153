"""What a secret looks like: the closed, versioned list of shapes, found in bytes without knowing any value.

Nearly all output holds no secret, so the cost is that of *not* finding one. Every shape has bytes it cannot do
without, whose absence from a block costs next to nothing to establish, and an anchor: a literal that its
expression starts with, for which `re` scans at a byte a cycle, slowed by nothing but occurrences of the first
letter. So an anchor starts with the rarest letter of the shape (`ken` of `token`), and what stands before it is
checked *after* it, by a look behind. No expression takes more than linear time: each either starts at a boundary,
so that a run of characters is tried once, or is bounded.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
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
    """The literal with which `pattern` begins; `back` bytes of the match stand before it."""
    pattern: re.Pattern[bytes]
    """Its last group that matched is the secret; without groups, all of it."""
    needs: bytes = b""
    """Each of these bytes stands in every match."""
    needs_any: bytes = b""
    """One of these bytes stands in every match."""
    rare: bytes = b""
    """The byte of the anchor that most output has seldom or never, if there is one."""
    folded: bool = False
    """Look at a lower-case copy of the text."""
    back: int = 0


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


def _token(rule: str, anchor: str, rest: str, *, before: str = "", needs: str = "") -> Shape:
    """A shape that stands for itself wherever a word may begin; `before` is what precedes its anchor."""
    word = f"(?<={before}{anchor})(?<!{_ALNUM}{before}{anchor})"
    pattern = re.compile(f"{anchor}{word}{rest}".encode())
    rare = _bytes_of("".join(set(anchor) & set("Ixz")))[:1]
    back = len(re.sub(r"\[.*?\]", ".", before))
    return Shape(rule, anchor.encode(), pattern, _bytes_of(anchor + needs), rare=rare, back=back)


def _bytes_of(text: str) -> bytes:
    return bytes(sorted(set(text.encode())))


def _assignment(anchor: str, rest: str, back: int = 0) -> Shape:
    pattern = re.compile(f"{anchor}{rest}{_ASSIGNED}".encode())
    return Shape("assignment", anchor.encode(), pattern, needs_any=b"=:", folded=True, back=back)


def _query(mark: str) -> Shape:
    names = "(?:x-amz-)?(?:key|sig|sign|signature|auth)"
    pattern = re.compile(rf"""{re.escape(mark)}{names}=([^\s&#"'<>]{{6,}})""".encode())
    return Shape(
        "query", mark.encode(), pattern, needs=_bytes_of(mark + "="), rare=mark.encode(), folded=True
    )


SHAPES: tuple[Shape, ...] = (
    _token("aws_key", "IA", rf"[0-9A-Z]{{16}}(?!{_ALNUM})", before="A[KS]"),
    _token("google_key", "AIza", "[0-9A-Za-z_-]{35}"),
    _token("github_token", "gh", f"[pousr]_{_ALNUM}{{20,}}", needs="_"),
    _token("github_token", "github_pat_", "[0-9A-Za-z_]{22,}"),
    _token("openai_key", "k-", "[0-9A-Za-z_-]{20,}", before="s", needs="s"),
    _token("slack_token", "xox", "[abeoprs]-[0-9A-Za-z-]{10,}", needs="-"),
    _token("stripe_key", "k_", f"(?:live|test)_{_ALNUM}{{16,}}", before="[rs]"),
    Shape(
        "jwt",
        b"yJ",
        re.compile(rb"yJ(?<=eyJ)(?<![\w-]eyJ)[\w-]{5,}\.[\w-]{5,}\.[\w-]*"),
        needs=b"J.ye",
        rare=b"J",
        back=1,
    ),
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
    _assignment("ken", "(?<=token)", back=2),
    _assignment("cret", "(?<=secret)", back=2),
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
_FEW = 64
"""So many places are looked at one by one; more are faster found by a scan."""

# Anchors with the same rare first letter share one scan, which nearly always shows that none of them matches.
_LETTER = b"k"
_SHARED = re.compile(
    _LETTER
    + b"(?:%s)" % b"|".join(shape.pattern.pattern[1:] for shape in SHAPES if shape.anchor[:1] == _LETTER)
)


def is_credential_name(name: str) -> bool:
    """Whether a value of this name is a secret whatever it looks like, as a JSON member or a flag."""
    return _CREDENTIAL.search(name) is not None


def find_shapes(text: bytes) -> list[Span]:
    """Every stretch that looks like a secret, by shape; they may overlap. PEM blocks are `find_pem`'s."""
    folded = text.lower()
    if len(text) < _SMALL:
        shapes = [shape for anchor, shape in _FOLDED_ANCHORS if anchor in folded and _possible(shape, text)]
    else:
        shapes = _worth_a_scan(text, folded)
    return [span for shape in shapes for span in _matches(shape, folded if shape.folded else text)]


def _worth_a_scan(text: bytes, folded: bytes) -> list[Shape]:
    shapes = [shape for shape in SHAPES if _possible(shape, text)]
    shared = [shape for shape in shapes if shape.anchor.startswith(_LETTER)]
    if len(shared) > 1 and not _SHARED.search(folded):
        return [shape for shape in shapes if shape not in shared]
    return shapes


def _possible(shape: Shape, text: bytes) -> bool:
    if shape.needs_any and not any(byte in text for byte in shape.needs_any):
        return False
    return has_each(text, shape.needs)


def has_each(text: bytes, wanted: bytes) -> bool:
    """Whether all of these bytes stand in the text, somewhere."""
    for byte in wanted:  # noqa: SIM110 - a generator costs more than the search it saves
        if byte not in text:
            return False
    return True


def _matches(shape: Shape, text: bytes) -> Iterator[Span]:
    places = _places(shape, text) if shape.rare else None
    for match in shape.pattern.finditer(text) if places is None else _at(shape, text, places):
        start, end = match.span(match.lastindex or 0)
        if match.lastindex is None:
            start -= shape.back
        yield Span(start, end, shape.rule, match.start() - shape.back)


def _places(shape: Shape, text: bytes) -> list[int] | None:
    """Where the anchor may stand, by its rare byte; None if that is not rare here. Costs a tenth of a scan."""
    pieces = text.split(shape.rare, _FEW)
    if len(pieces) > _FEW:
        return None
    offset = shape.anchor.index(shape.rare)
    ends = accumulate(len(piece) + 1 for piece in pieces[:-1])
    return [end - 1 - offset for end in ends if end > offset]


def _at(shape: Shape, text: bytes, places: Iterable[int]) -> Iterator[re.Match[bytes]]:
    """What `finditer` gives, tried at these places alone."""
    done = 0
    for place in places:
        if place >= done and (match := shape.pattern.match(text, place)):
            done = match.end()
            yield match


def find_pem(text: bytes) -> Pem:
    """Private key blocks, from first dash to last; one without an end counts as far as it looks like one."""
    if not has_each(text, b"VYKP-") or b"PRIVATE KEY" not in text:
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
