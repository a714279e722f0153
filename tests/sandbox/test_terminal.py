"""Lending the terminal, in a program of its own on a terminal of its own."""

from __future__ import annotations

import os
import pty
import select
import sys
import time
from pathlib import Path

import pytest

from fsmrt.sandbox import terminal

ROOT = Path(__file__).parent.parent.parent

PROGRAM = '''
import anyio, os, pathlib, sys
from fsmrt.sandbox.host import HostSandbox
from fsmrt.sandbox.procfs import read_facts
from tests.sandbox.places import opened, Counted

lend = os.tcsetpgrp

def lend_late(terminal, group):
    """Lend to a command only when it has been stopped for reading what was not yet its own."""
    while group != os.getpgrp() and read_facts(group).state != "T":
        os.sched_yield()
    lend(terminal, group)

if sys.argv[1] == "late":
    os.tcsetpgrp = lend_late

async def main():
    async with opened(HostSandbox, pathlib.Path("/")) as box:
        for text in sys.argv[2:]:
            command = box.ordered(text, terminal=True)
            async with box.sandbox.command(command, Counted(), Counted()) as running:
                await running.wait()
            mine = os.tcgetpgrp(0) == os.getpgrp()
            print("code", running.exit.rc, "mine" if mine else "lost", flush=True)

anyio.run(main, backend="trio")
'''


def on_a_terminal(typed: bytes, *texts: str, lent: str = "early") -> str:
    """Run the commands in a program with a terminal on which somebody types; what was seen on it."""
    pid, screen = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-c", PROGRAM, lent, *texts])
    os.write(screen, typed)
    try:
        return read_all(screen)
    finally:
        os.close(screen)  # hangs up: whoever waits for the terminal ends
        os.waitpid(pid, 0)


def read_all(screen: int) -> str:
    seen, patience = b"", time.monotonic() + 20
    while select.select([screen], [], [], max(0.0, patience - time.monotonic()))[0]:
        try:
            data = os.read(screen, 4096)
        except OSError:  # the last one has closed it
            return seen.decode()
        if not data:
            return seen.decode()
        seen += data
    pytest.fail(f"the program did not end; it showed {seen!r}")


def test_a_command_reads_from_the_terminal_and_we_get_it_back() -> None:
    shown = on_a_terminal(b"one\ntwo\n", "read a; echo got $a; exit 3", "read b; echo got $b; exit 4")
    assert "got one" in shown
    assert "got two" in shown
    assert "code 3 mine" in shown
    assert "code 4 mine" in shown


def test_who_reads_too_early_is_woken_when_the_terminal_comes() -> None:
    shown = on_a_terminal(b"one\n", "read a; echo got $a; exit 3", lent="late")
    assert "got one" in shown
    assert "code 3 mine" in shown


def test_ctrl_c_is_for_the_command_and_not_for_us() -> None:
    shown = on_a_terminal(b"", "kill -INT 0; exit 1", "test -t 0 && test -t 1 && exit 5")
    assert "code 130 mine" in shown
    assert "code 5 mine" in shown


def test_without_a_terminal_nothing_is_lent() -> None:
    with Path("/dev/null").open() as nothing, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", nothing)
        assert not terminal.available()
        with terminal.lent(True, 1):
            pass
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", None)
        assert not terminal.available()


def test_it_is_not_lent_where_nobody_asks() -> None:
    with terminal.lent(False, 1):
        pass
