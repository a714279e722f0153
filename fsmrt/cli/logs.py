"""`fsmrt logs`: what happened in a run, and what its commands printed; following it while it lives."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from ..evidence.events import EVENTS, LAST_TYPES, Event, decode_line
from ..evidence.folder import RunFolder
from ..lease import owner_alive
from .narration import PULSE, EventStream, View
from .output import Output, console
from .picture import Picture
from .plain import PlainView
from .runs import find
from .usage import UsageError

_MOUTHFUL = 1 << 20


def main(args: Namespace) -> int:
    """0 once the record has been shown to its end, or as far as it goes."""
    screen = console(no_color=args.no_color)
    run_dir = find(args.run)
    view: View = EventStream(screen.out) if args.json else PlainView(
        screen.out, Picture(), run_dir, verbose=True
    )  # fmt: skip
    log = Log(run_dir / EVENTS)
    ended = _show_new(log, view)
    while args.follow and not ended and not screen.out.gone:
        alive = _is_live(run_dir)
        ended = _show_new(log, view)
        if not ended and not alive:
            screen.err.line("the run's process is gone without a last word; `fsmrt gc` closes its record")
            break
        time.sleep(PULSE)
    view.close()
    _say_what_is_missing(args.follow, ended, run_dir, screen.err)
    return 0


class Log:
    """The events of a growing file, as their lines get whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._begun = b""
        self.now = 0.0
        """Seconds of the run at its last event."""

    def new(self) -> Iterator[Event]:
        """Those since the last call. A line that is none is passed over."""
        while piece := self._piece():
            *lines, self._begun = (self._begun + piece).split(b"\n")
            for line in lines:
                try:
                    event = decode_line(line)
                except ValueError:
                    continue
                self.now = event.t_ms / 1000
                yield event

    def _piece(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                piece = file.read(_MOUTHFUL)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise UsageError(f"{self._path}: {error.strerror}") from None
        self._at += len(piece)
        return piece


def _show_new(log: Log, view: View) -> bool:
    ended = False
    for event in log.new():
        view.event(event)
        ended = ended or event.type in LAST_TYPES
    view.pulse(log.now)
    return ended


def _is_live(run_dir: Path) -> bool:
    with RunFolder.open_existing(run_dir) as folder:
        owner = folder.lock_owner()
    return owner is not None and owner_alive(owner)


def _say_what_is_missing(followed: bool, ended: bool, run_dir: Path, err: Output) -> None:
    if not ended and not followed and _is_live(run_dir):
        err.line("the run goes on; -f follows it")
