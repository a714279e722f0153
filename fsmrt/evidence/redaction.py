"""What must not be kept is replaced before anything is hashed or stored: known values and shapes of secrets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import secrets as randomness
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote_from_bytes

import msgspec

from ..errors import EvidenceError, EvidenceWriteFailed
from .files import NO_FOLLOW, write_whole
from .shapes import (
    RULES_VERSION,
    SHAPE_NAMES,
    Span,
    find_pem,
    find_shapes,
    has_each,
    is_credential_name,
    undecided_from,
)

Mode = Literal["full", "shapes_only", "disabled_unsafe"]

KEY_NAME = "redaction.key"
KEY_BYTES = 32
MIN_VALUE = 6
MAX_HELD = 64 * 1024
_MAX_NEEDLE = 32 * 1024  # a longer value is looked for in pieces, each of which a stream can hold back whole
_LINE_HELD = 4096  # an unfinished line up to this length waits for its end; a longer one is looked at closely

Bytes = bytes
"""The type, where a method of that name hides it."""

_PLACEHOLDER = re.compile(rb"<redacted:([0-9A-Za-z_.-]{1,64}):([0-9a-f]{8})>")
_UNSAFE_IN_RULE = re.compile(r"[^0-9A-Za-z_.-]")
_SHAPE_RULES = frozenset(name.encode() for name in SHAPE_NAMES)


class Needle(NamedTuple):
    """A byte string, and its rarest bytes: a block without one of them need not be searched."""

    text: bytes
    rare: bytes


class Known(msgspec.Struct, frozen=True):
    """A secret whose value is known: all the byte strings it may appear as, and what stands in its place."""

    rule: str
    needles: tuple[Needle, ...]
    placeholder: bytes


class Redactor:
    """Replaces secrets by `<redacted:RULE:H8>`; equal secrets get equal placeholders under one key.

    Thread-safe: the recorder and every stream share one. Its values are in no `repr`.
    """

    def __init__(
        self, secrets: Mapping[str, str | Bytes] | None = None, *, key: Bytes, mode: Mode = "full"
    ) -> None:
        self._key, self._mode = key, mode
        self._known: tuple[Known, ...] = ()
        self._placeholders: frozenset[Bytes] = frozenset()
        self._notes: set[str] = set()
        self._by_rule: Counter[str] = Counter()
        self._by_member: Counter[str] = Counter()
        self._counting = threading.Lock()
        for name, value in (secrets or {}).items():
            self.add(name, value)

    @property
    def longest(self) -> int:
        """Length of the longest byte string looked for; no more of a known value can be cut off unseen."""
        return max((len(needle.text) for known in self._known for needle in known.needles), default=0)

    def add(self, name: str, value: str | Bytes) -> None:
        """From now on replace this value too, in running streams as well; one of under six bytes is only noted."""
        raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value)
        if len(raw) < MIN_VALUE:
            self._notes.add(f"secret_too_short:{name}")
            return
        rule = _UNSAFE_IN_RULE.sub("_", name)[:64] or "_"
        known = Known(rule, appearances(raw), self._placeholder(rule, raw))
        self._known = (*self._known, known)
        self._placeholders |= {known.placeholder}

    def note_too_short(self, name: str) -> None:
        """A secret that cannot be looked for: it would be found everywhere."""
        self._notes.add(f"secret_too_short:{name}")

    @property
    def warnings(self) -> list[str]:
        """What this redactor cannot do, in words for a result."""
        names = sorted(note.partition(":")[2] for note in self._notes)
        return [f"secret_too_short: {name} is too short to be found again in what is kept" for name in names]

    def bytes(self, data: Bytes, member: str = "") -> Bytes:
        """`data` without secrets; the very same object where there was nothing to replace."""
        if self._mode == "disabled_unsafe" or not data:
            return data
        return self._replace(data, self.spans(data), member)

    def text(self, text: str, member: str = "") -> str:
        """As `bytes`; surrogate escapes, the bytes of odd names, come through unchanged."""
        data = text.encode("utf-8", "surrogateescape")
        redacted = self.bytes(data, member)
        return text if redacted is data else redacted.decode("utf-8", "surrogateescape")

    def json(self, value: Any, member: str = "") -> Any:
        """A JSON value with every string redacted, keys too, and the members that bear a credential's name."""
        if isinstance(value, str):
            return self.text(value, member)
        if isinstance(value, dict):
            return {self._key_text(k, member): self._member_value(k, v, member) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.json(item, member) for item in value]
        return value

    def finds_in_json(self, encoded: Bytes) -> bool:
        """Whether `json` would change the value of this JSON text: one look at it instead of one at each string.

        Escaped surrogates stand for bytes that only the strings themselves show, so they count as a find.
        """
        if self._mode == "disabled_unsafe":
            return False
        return b"\\ud" in encoded or bool(self.spans(encoded))

    def argv(self, argv: Sequence[str], member: str = "") -> list[str]:
        """Arguments without secrets: also what a credential's flag takes, whatever it looks like."""
        redacted: list[str] = []
        after_flag = False
        for index, word in enumerate(argv):
            flag, equals, value = word.partition("=")
            is_flag = index > 0 and flag.startswith("-") and is_credential_name(flag)
            if after_flag:
                redacted.append(self._whole("argv", word, member))
            elif is_flag and equals:
                redacted.append(f"{flag}={self._whole('argv', value, member)}")
            else:
                redacted.append(self.text(word, member))
            after_flag = is_flag and not equals and not after_flag
        return redacted

    def stream(self, member: str) -> StreamRedactor:
        return StreamRedactor(self, member)

    def summary(self) -> dict[str, Any]:
        """What health keeps: mode, versions and counts, never a value."""
        with self._counting:
            by_rule, by_member = dict(sorted(self._by_rule.items())), dict(sorted(self._by_member.items()))
        return {
            "mode": self._mode,
            "rules_version": RULES_VERSION,
            "key_id": hmac.new(self._key, b"fsmrt.key_id", hashlib.sha256).hexdigest()[:16],
            "by_rule": by_rule,
            "by_member": by_member,
            "notes": sorted(self._notes),
        }

    def spans(self, text: Bytes) -> list[Span]:
        """Everything in `text` that must not be kept, in order and apart from each other."""
        return self._settle(text, find_pem(text).spans + find_shapes(text)) if self.active else []

    def partial(self, text: Bytes) -> tuple[list[Span], int]:
        """As `spans`, for a text that goes on; and from where on it must be seen again together with what comes."""
        pem = find_pem(text)
        spans = self._settle(text, pem.spans + find_shapes(text))
        line = text.rfind(b"\n") + 1
        keep = line
        if len(text) - line > _LINE_HELD:
            keep = line + undecided_from(
                text[line:], [_shifted(span, -line) for span in spans if span.begin >= line]
            )
            keep = min(keep, max(line, len(text) - self.longest + 1))
        keep = min(keep, len(text) if pem.open_from is None else pem.open_from, self._begun_line_over(text))
        for span in reversed(spans):
            if span.begin < keep < span.end:
                keep = span.begin
        return spans, keep

    @property
    def active(self) -> bool:
        return self._mode != "disabled_unsafe"

    def _begun_line_over(self, text: Bytes) -> int:
        """Where a known value of several lines begins that `text` may end inside of."""
        begun = len(text)
        for known in self._known_now():
            for needle in known.needles:
                if b"\n" in needle.text:
                    begun = min(begun, len(text) - _overlap(text, needle.text))
        return begun

    def _known_now(self) -> tuple[Known, ...]:
        return self._known if self._mode == "full" else ()

    def _settle(self, text: Bytes, shapes: Iterable[Span]) -> list[Span]:
        spans = [span for known in self._known_now() for span in _occurrences(text, known)]
        spans += shapes
        if not spans:
            return spans
        if b"<redacted:" in text:
            spans = self._outside_placeholders(text, spans)
        return _apart(sorted(spans, key=lambda span: (span.start, -span.end, not span.placeholder)))

    def _outside_placeholders(self, text: Bytes, spans: list[Span]) -> list[Span]:
        """Leave alone what an earlier pass wrote. A known value may hide in nothing but our own words."""
        found = list(_PLACEHOLDER.finditer(text))
        starts = [match.start() for match in found]
        return [span for span in spans if not self._is_ours(span, found, starts)]

    def _is_ours(self, span: Span, found: Sequence[re.Match[Bytes]], starts: Sequence[int]) -> bool:
        after = bisect_right(starts, span.start)
        around = found[after - 1] if after and span.start < found[after - 1].end() else None
        if not span.placeholder:
            return around is not None or (after < len(found) and starts[after] < span.end)
        return around is not None and span.end <= self._own_words_end(around)

    def _own_words_end(self, found: re.Match[Bytes]) -> int:
        if found[0] in self._placeholders:
            return found.end()
        return found.start(2) if found[1] in _SHAPE_RULES else found.start()

    def _replace(self, data: Bytes, spans: Sequence[Span], member: str) -> Bytes:
        while spans:
            data = self._replaced_once(data, spans, member)
            spans = self.spans(data)  # a word that touched a secret stands by itself now, and may be one too
        return data

    def _replaced_once(self, data: Bytes, spans: Sequence[Span], member: str) -> Bytes:
        pieces: list[Bytes] = []
        done = 0
        for span in spans:
            stand_in = span.placeholder or self._placeholder(span.rule, data[span.start : span.end])
            pieces += (data[done : span.start], stand_in)
            done = span.end
            self._count(span.rule, member)
        pieces.append(data[done:])
        return b"".join(pieces)

    def _key_text(self, key: Any, member: str) -> Any:
        return self.text(key, member) if isinstance(key, str) else key

    def _member_value(self, key: Any, value: Any, member: str) -> Any:
        if (
            isinstance(key, str)
            and isinstance(value, str)
            and len(value) >= MIN_VALUE
            and is_credential_name(key)
        ):
            return self._whole("member", value, member)
        return self.json(value, member)

    def _whole(self, rule: str, value: str, member: str) -> str:
        """The placeholder of a value that goes whatever it looks like; one that is a placeholder already stays."""
        raw = value.encode("utf-8", "surrogateescape")
        if not self.active or _PLACEHOLDER.fullmatch(self.bytes(raw)):
            return self.text(value, member)
        self._count(rule, member)
        return self._placeholder(rule, raw).decode()

    def _placeholder(self, rule: str, value: Bytes) -> Bytes:
        return f"<redacted:{rule}:{hmac.new(self._key, value, hashlib.sha256).hexdigest()[:8]}>".encode()

    def _count(self, rule: str, member: str) -> None:
        with self._counting:
            self._by_rule[rule] += 1
            if member:
                self._by_member[member] += 1


class StreamRedactor:
    """Redacts what comes in pieces as if it came whole, by holding back at most 64 KiB that is not decided yet."""

    def __init__(self, redactor: Redactor, member: str) -> None:
        self._redactor, self._member = redactor, member
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """The next bytes that may be kept: those of `data` and of what was held back, or fewer."""
        if not self._redactor.active:
            return data
        text = self._held + data if self._held else data
        if not text:
            return b""
        spans, keep = self._redactor.partial(text)
        keep = _bounded(spans, keep, len(text))
        self._held = text[keep:]
        ready = [span for span in spans if span.end <= keep]
        return self._redactor._replace(text[:keep] if keep < len(text) else text, ready, self._member)

    def finish(self) -> bytes:
        """What was still held back."""
        held, self._held = self._held, b""
        return self._redactor.bytes(held, self._member)


def _bounded(spans: Sequence[Span], keep: int, length: int) -> int:
    """Hold back no more than allowed; a secret that is longer still is at least never cut in two."""
    if length - keep <= MAX_HELD:
        return keep
    keep = length - MAX_HELD
    return max((span.end for span in spans if span.start < keep < span.end), default=keep)


def appearances(value: bytes) -> tuple[Needle, ...]:
    """The byte strings in which a value can show: raw, percent-encoded, JSON-escaped and in base64."""
    forms = {value, *_percent_encoded(value), *_json_escaped(value), *_base64_cores(value)}
    pieces = {piece for form in forms for piece in _pieces(form)}
    return tuple(Needle(piece, _rarest(piece)) for piece in sorted(pieces))


_COMMON_LAST = b"ZXQJKVYWUHBGFMNOLDTSRIPACEzqxj9876543210kvwybghfumpdclsnitraoe/._-:= \n"
"""What output has, the rarest first; a byte that is not listed is rarer still."""


def _rarest(text: bytes) -> bytes:
    """The bytes of it that output seldom has, the rarest first; looking for one that is there ends at once."""
    return bytes(sorted(set(text), key=_COMMON_LAST.find)[:8])


def _percent_encoded(value: bytes) -> set[bytes]:
    upper = {quote_from_bytes(value, safe=safe).encode() for safe in ("", "/", "/:@!$&'()*+,;=~")}
    upper |= {form.replace(b"%20", b"+") for form in upper}
    return upper | {re.sub(rb"%[0-9A-F]{2}", lambda match: match[0].lower(), form) for form in upper}


def _json_escaped(value: bytes) -> set[bytes]:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return set()
    forms = {json.dumps(text, ensure_ascii=ascii_)[1:-1].encode() for ascii_ in (True, False)}
    forms.add(msgspec.json.encode(text)[1:-1])
    return forms | {form.replace(b"/", b"\\/") for form in forms}


def _base64_cores(value: bytes) -> set[bytes]:
    """What is the same of the value's base64 whatever stands before and after it, at each of three alignments."""
    cores: set[bytes] = set()
    for lead in range(3):
        encoded = base64.b64encode(b"\0" * lead + value)
        first = -(-lead * 8 // 6)  # the first character that holds no bit of what stands before
        last = (lead + len(value)) * 8 // 6  # and the end of those that hold none of what follows
        core = encoded[first:last]
        cores |= {core, core.translate(bytes.maketrans(b"+/", b"-_"))}
    return cores


def _pieces(form: bytes) -> Iterable[bytes]:
    if len(form) <= _MAX_NEEDLE:
        return (form,)
    starts = [*range(0, len(form) - _MAX_NEEDLE, _MAX_NEEDLE), len(form) - _MAX_NEEDLE]
    return tuple(form[start : start + _MAX_NEEDLE] for start in starts)


def _occurrences(text: bytes, known: Known) -> list[Span]:
    spans: list[Span] = []
    for needle, rare in known.needles:
        at = text.find(needle) if has_each(text, rare) else -1
        last = None
        while at >= 0:
            if last is not None and at < last.end:  # a value that overlaps itself: one stretch, however often
                last = spans[-1] = last._replace(end=at + len(needle))
            else:
                last = Span(at, at + len(needle), known.rule, at, known.placeholder)
                spans.append(last)
            at = text.find(needle, at + 1)
    return spans


def _overlap(text: bytes, needle: bytes) -> int:
    """How many bytes at the end of `text` could be the beginning of `needle`."""
    at = text.find(needle[:1], max(0, len(text) - len(needle) + 1))
    while at >= 0:
        if needle.startswith(text[at:]):
            return len(text) - at
        at = text.find(needle[:1], at + 1)
    return 0


def _apart(ordered: Iterable[Span]) -> list[Span]:
    """Leftmost first, longest on ties; what overlaps is one stretch, so that no end of a secret sticks out."""
    apart: list[Span] = []
    for span in ordered:
        if apart and span.start < apart[-1].end:
            if span.end > apart[-1].end:
                apart[-1] = apart[-1]._replace(end=span.end, placeholder=b"")
            continue
        apart.append(span)
    return apart


def _shifted(span: Span, by: int) -> Span:
    return span._replace(start=span.start + by, end=span.end + by, begin=span.begin + by)


def load_or_create_key(state_dir: Path) -> bytes:
    """The key of this host's placeholders, made by whoever comes first; two at once agree on one."""
    path = state_dir / KEY_NAME
    try:
        return _read_key(path)
    except FileNotFoundError:
        _publish_key(path)
        return _read_key(path)


def _read_key(path: Path) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | NO_FOLLOW), "rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise EvidenceError(f"{path}: readable by others; remove it, or make it mode 0600")
        key = file.read(KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise EvidenceError(f"{path}: not a key of {KEY_BYTES} bytes; remove it")
    return key


def _publish_key(path: Path) -> None:
    temporary = path.with_name(f".{KEY_NAME}.{randomness.token_hex(8)}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o600)
        try:
            write_whole(fd, randomness.token_bytes(KEY_BYTES))
            os.fsync(fd)
        finally:
            os.close(fd)
        with suppress(FileExistsError):  # somebody was faster: theirs is the key
            os.link(temporary, path)
        os.unlink(temporary)
    except OSError as error:
        raise EvidenceWriteFailed(str(path), error) from error
