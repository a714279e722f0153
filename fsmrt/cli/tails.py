"""What a running command has printed, read from the files in which it is being kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .output import printable

STREAMS = ("stdout", "stderr")
_GLANCE = 4096
_MOUTHFUL = 64 * 1024


class Tail:
    """The lines of one growing file, as they get whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._begun = b""

    def lines(self) -> Iterator[str]:
        """The lines that came since the last call."""
        while piece := self._piece():
            *whole, self._begun = (self._begun + piece).split(b"\n")
            for line in whole:
                yield printable(line.decode("utf-8", "replace"))

    def rest(self) -> Iterator[str]:
        """Those too, and a last line without an end."""
        yield from self.lines()
        if self._begun:
            yield printable(self._begun.decode("utf-8", "replace"))
            self._begun = b""

    def _piece(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                piece = file.read(_MOUTHFUL)
        except OSError:  # not there yet, or not any more: then nobody can see it
            return b""
        self._at += len(piece)
        return piece


class CommandTails:
    """Both streams of one command."""

    def __init__(self, run_dir: Path, path: str) -> None:
        self._tails = [Tail(run_dir / f"{path}_{stream}.txt") for stream in STREAMS]

    def lines(self) -> Iterator[str]:
        for tail in self._tails:
            yield from tail.lines()

    def rest(self) -> Iterator[str]:
        for tail in self._tails:
            yield from tail.rest()


def last_line(run_dir: Path, path: str) -> str:
    """The last line with anything on it that a command has printed, on the stream that moved last."""
    files = [run_dir / f"{path}_{stream}.txt" for stream in STREAMS]
    for file in sorted(files, key=_modified, reverse=True):
        lines = _end_of(file).decode("utf-8", "replace").splitlines()
        for line in reversed(lines):
            if shown := printable(line).strip():
                return shown
    return ""


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _end_of(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, os.fstat(opened.fileno()).st_size - _GLANCE))
            return opened.read(_GLANCE)
    except OSError:
        return b""
