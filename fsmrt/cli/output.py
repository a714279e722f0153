"""Stdout and stderr of this program.

Printing never fails a run: a reader who has left is noticed (`gone`) and otherwise ignored. Text that is not
ours, such as the output of commands, passes `printable` first: nothing may steer the reader's terminal.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping

TYPE_CHECKING = False  # as in `fsmrt/__init__.py`: `--help` does not wait for `typing`
if TYPE_CHECKING:
    from typing import Any, TextIO

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
# Texts, compiled when first used: `--help` prints nothing foreign.
_ESCAPES = r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-_]?"
_CONTROLS = r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
_PLAIN_MARKS = {"✓": "+", "✗": "x", "·": "-", "▶": ">", "→": "->", "│": "|"}


def printable(text: str) -> str:
    """One line of foreign text, without anything that a terminal would obey."""
    shown = text.rstrip("\r\n").rsplit("\r", 1)[-1]
    return re.sub(_CONTROLS, "", re.sub(_ESCAPES, "", shown)).expandtabs(4)


class Output:
    """One standard stream."""

    def __init__(self, stream: TextIO, *, color: bool = False) -> None:
        self._stream = stream
        self._color = color
        self._marks = "utf" in (stream.encoding or "").lower()
        self.gone = False
        """Whether the reader has left."""

    def line(self, text: str = "") -> None:
        self.write(text + "\n")

    def write(self, text: str) -> None:
        """Write whole and at once."""
        if self.gone:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self.gone = True
            _point_nowhere(self._stream)

    def json(self, value: Any) -> None:
        """One JSON document on one line."""
        self.write(json_line(value))

    def paint(self, text: str, *styles: str) -> str:
        """The text in these styles, where the reader sees them."""
        if not self._color or not text:
            return text
        return f"\x1b[{';'.join(_CODES[style] for style in styles)}m{text}\x1b[0m"

    def mark(self, sign: str) -> str:
        """A sign, or its stand-in where the encoding has no such letter."""
        return sign if self._marks else _PLAIN_MARKS[sign]

    @property
    def is_terminal(self) -> bool:
        return self._stream.isatty()


class Console:
    """Where a subcommand prints: results on `out`, everything else on `err`."""

    def __init__(self, *, color: bool) -> None:
        self.out = _output(sys.stdout, color)
        self.err = _output(sys.stderr, color)


def console(*, no_color: bool = False) -> Console:
    """The console of this process."""
    return Console(color=not no_color and _wants_color(os.environ))


def _wants_color(environ: Mapping[str, str]) -> bool:
    return not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"


def _output(stream: TextIO, color: bool) -> Output:
    return Output(stream, color=color and stream.isatty())


def json_line(value: Any) -> str:
    """One line of JSON; a lone surrogate, the byte of an odd file name, is escaped."""
    import json

    import msgspec

    try:
        return msgspec.json.encode(value).decode() + "\n"
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value, str_keys=True)) + "\n"


def ready_streams() -> None:
    """Standard streams that exist, and can take any text."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this very one
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _point_nowhere(stream: TextIO) -> None:
    """What is left in the stream's buffer may be written at exit, and must not fail there."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
