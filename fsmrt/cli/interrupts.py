"""What signals do to a run: once, stop and tear down; twice, hurry; a third time, leave.

Handlers exist for as long as the run does. A signal that was ignored when we were started, by `nohup` or by a
shell without job control, stays ignored.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import anyio

from ..control import Control
from ..verdict import Reason

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LAST_WORDS_SECONDS = 0.2
_SHOW_CURSOR = "\x1b[?25h"

Say = Callable[[str], None]


@contextmanager
def caught_signals() -> Iterator[AsyncIterator[signal.Signals]]:
    """The signals that arrive in this block, in order."""
    wanted = [one for one in _HANDLED if signal.getsignal(one) is not signal.SIG_IGN]
    with anyio.open_signal_receiver(*wanted) as signals:
        yield signals


async def obey(signals: AsyncIterator[signal.Signals], control: Control, say: Say) -> None:
    """Pass what the operator wants to the run, and say each time what happens. Ends by cancellation."""
    count = 0
    async for received in signals:
        count += 1
        if count == 1:
            say(f"{_name(received)}: ending the running command, then tearing down; again to hurry")
            terminated = received is not signal.SIGINT
            control.stop(Reason.INTERRUPTED, f"stopped by {received.name}", terminated=terminated)
        elif count == 2:
            say(f"{_name(received)}: killing what runs, cutting teardown short; again to leave at once")
            control.hurry()
        else:
            leave(received)


def leave(received: signal.Signals) -> None:
    """End this process now. What is left behind is found by the next start, or by `fsmrt gc`."""
    text = f"{_name(received)}: leaving at once; `fsmrt gc`, or the next run, cleans up\n"
    # A terminal that somebody has paused would hold us here: the words get a moment, not more.
    words = threading.Thread(target=_write, args=(text,), daemon=True)
    words.start()
    words.join(_LAST_WORDS_SECONDS)
    os._exit(130 if received is signal.SIGINT else 143)


def _write(text: str) -> None:
    if os.isatty(2):
        text = f"{_SHOW_CURSOR}\n{text}"
    os.write(2, text.encode())


def _name(received: signal.Signals) -> str:
    return "interrupted" if received is signal.SIGINT else f"{received.name} received"
