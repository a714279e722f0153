"""Lending our terminal to an interactive command, and taking it back."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def available() -> bool:
    """Whether there is a terminal that could be lent."""
    return sys.stdin is not None and sys.stdin.isatty()


@contextmanager
def lent(wanted: bool, group: int) -> Iterator[None]:
    """Make process group `group` the foreground of our terminal for the duration of the block."""
    if not wanted or not available():
        yield
        return
    terminal = sys.stdin.fileno()
    mine = os.getpgrp()
    os.tcsetpgrp(terminal, group)
    try:
        yield
    finally:
        _take_back(terminal, mine)


def _take_back(terminal: int, group: int) -> None:
    # Whoever sets the foreground from the background is stopped by SIGTTOU, unless it is blocked.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        os.tcsetpgrp(terminal, group)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
