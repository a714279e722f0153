"""What every sandbox promises; `tests/sandbox/test_conformance.py` says the same in code.

* Leaving the block of `command()` leaves no process of that command behind, however it is left, except
  background children of a command that ended by itself, which live to the end of their stage or of the run
  (`Command.children`).
* Output is complete up to the moment the main process ended, then drained for at most `DRAIN_SECONDS`; what
  was cut is flagged.
* "The command failed" is an `Exit`; "the sandbox failed" is `SandboxLost` or `SpawnFailed`. A command that was
  ended by us is never reported as a success, whatever status arrives.
* `close()` ends everything that was started, proves it, and lists what it had to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

from ..messages import Command, Ended, Exit, SandboxFacts

DRAIN_SECONDS = 2.0
"""How long output is read after the main process ended while somebody still holds the pipe."""

TERM_GRACE = 5.0
"""Seconds between TERM and KILL."""

WaitOutcome = Literal["exited", "output_limit"]


def shell_argv(text: str) -> tuple[str, ...]:
    """How a contract's command string becomes a program and its arguments."""
    return ("/bin/sh", "-c", text)


class Sink(Protocol):
    """Where bytes of one stream go, as they come. Raises `EvidenceWriteFailed` when it cannot keep them."""

    def write(self, data: bytes) -> None: ...


class Running(Protocol):
    """A command between its start and its end."""

    @property
    def pid(self) -> int | None:
        """The main process as its host sees it, where there is one."""
        ...

    @property
    def exit(self) -> Exit | None:
        """How it ended; None until then. Still readable after the block was left."""
        ...

    async def wait(self) -> WaitOutcome:
        """Until the main process has ended and its output is drained, or printed too much."""
        ...

    async def end(self, grace: float | None = None) -> None:
        """TERM to the whole tree, `grace` seconds (None: the sandbox's own), KILL, then proof.

        Raises `SandboxLost` without proof.
        """
        ...


class Sandbox(Protocol):
    """A place where commands run."""

    @property
    def facts(self) -> SandboxFacts: ...

    async def start(self) -> None:
        """Make the place ready. Raises `SandboxLost` or `SpawnFailed` when it cannot be."""
        ...

    def command(self, command: Command, stdout: Sink, stderr: Sink) -> AbstractAsyncContextManager[Running]:
        """Start a command; leaving the block ends what still runs, shielded and bounded."""
        ...

    async def end_children(self, stage: str) -> Sequence[Ended]:
        """End background children of that stage's commands whose life was the stage's."""
        ...

    def kill_now(self) -> None:
        """KILL to everything at once, for an operator who will not wait. What dies is still collected."""
        ...

    async def close(self, *, leave_running: bool = False) -> Sequence[Ended]:
        """End everything, or list it as left running. Never raises for what it cannot end: it says `leaked`."""
        ...
