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
    """Make process group `group` the foreground of our terminal for the duration of the block.

    Nothing is lent where there is no terminal, or where it is not ours: then we are in the background ourselves.
    """
    if not wanted or not available() or os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
        yield
        return
    terminal = sys.stdin.fileno()
    mine = os.getpgrp()
    os.tcsetpgrp(terminal, group)
    # Whoever read from the terminal before it was theirs was stopped for it, and would stay so.
    os.killpg(group, signal.SIGCONT)
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
