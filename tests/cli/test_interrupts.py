"""Ctrl-C and its relatives: once, twice, three times."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fsmrt.cli.interrupts import obey
from fsmrt.control import Control
from fsmrt.lease import process_start_time
from fsmrt.verdict import Reason

from .conftest import lines_until

CONTRACT = """\
    version: 1
    security: {mode: system}
    tests:
      cmds: ['%secho $$ > fifo; while :; do sleep 0.1; done']
    deploy:
      teardown_cmds: ['echo down > torn_down']
    """
DEAF = 'trap "" TERM; '


class Started:
    """A run whose command is running, and has said which process it is."""

    def __init__(self, user: Any, *, deaf: bool) -> None:
        # In YAML's single quotes, `"` stands for itself.
        user.contract(CONTRACT % (DEAF if deaf else ""))
        fifo = user.repository / "fifo"
        os.mkfifo(fifo)
        self.process = user.starts("run", "--json")
        self.command = int(fifo.read_text())
        self.torn_down = user.repository / "torn_down"

    def signal(self, number: signal.Signals, answer: str) -> None:
        """Send it, and wait until the program has said what it does."""
        os.kill(self.process.pid, number)
        lines_until(self.process.stderr, answer)

    def end(self) -> dict[str, Any] | None:
        out, _ = self.process.communicate(timeout=60)
        return json.loads(out) if out else None


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
)
def test_once_ends_the_command_and_tears_down(user: Any, number: signal.Signals, code: int) -> None:
    run = Started(user, deaf=False)
    run.signal(number, "tearing down")
    result = run.end()
    assert run.process.returncode == code
    assert result is not None
    assert (result["verdict"], result["reason"], result["failed_stage"]) == (
        "cancelled",
        "interrupted",
        "tests",
    )
    assert run.torn_down.exists()
    assert process_start_time(run.command) is None


def test_twice_kills_and_cuts_teardown_short(user: Any) -> None:
    run = Started(user, deaf=True)
    run.signal(signal.SIGINT, "tearing down")
    run.signal(signal.SIGINT, "killing")
    result = run.end()
    assert run.process.returncode == 130
    assert result is not None
    assert result["leaks"] == []
    assert not run.torn_down.exists()
    assert process_start_time(run.command) is None


def test_a_third_time_leaves_at_once_and_gc_cleans_up(user: Any) -> None:
    run = Started(user, deaf=True)
    run.signal(signal.SIGHUP, "tearing down")
    # All that arrives while the process is stopped is delivered together: it has no time to end by itself.
    os.kill(run.process.pid, signal.SIGSTOP)
    os.kill(run.process.pid, signal.SIGINT)
    os.kill(run.process.pid, signal.SIGTERM)
    os.kill(run.process.pid, signal.SIGCONT)
    assert run.end() is None
    assert run.process.returncode == 143
    told = user.document("gc")["runs"]
    assert [(one["run_id"], one["recovered"], one["leaks"]) for one in told] == [
        (user.runs()[0].name, True, [])
    ]
    assert process_start_time(run.command) is None
    last = (user.runs()[0] / "events.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["type"] == "run_recovered"


@pytest.mark.parametrize(
    ("last", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
)
@pytest.mark.anyio
async def test_what_each_signal_does(
    monkeypatch: pytest.MonkeyPatch, last: signal.Signals, code: int, anyio_backend: str
) -> None:
    async def three() -> AsyncIterator[signal.Signals]:
        for number in (signal.SIGINT, signal.SIGTERM, last):
            yield number

    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    said: list[str] = []
    control = Control()
    await obey(three(), control, said.append)
    assert (control.reason, control.terminated, control.hurried) == (Reason.INTERRUPTED, False, True)
    assert [text.partition(":")[0] for text in said] == ["interrupted", "SIGTERM received"]
    assert left == [code]


def test_an_ignored_signal_stays_ignored(user: Any) -> None:
    """As `nohup` wants it: the terminal may go, the run goes on."""
    user.contract("version: 1\nsecurity: {mode: system}\ntests: {cmds: ['echo $PPID > fifo; cat fifo']}\n")
    fifo = user.repository / "fifo"
    os.mkfifo(fifo)
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = user.starts("run", "--quiet")
    finally:
        signal.signal(signal.SIGHUP, previous)
    fifo.read_text()
    os.kill(process.pid, signal.SIGHUP)
    fifo.write_text("go on\n")
    process.communicate(timeout=60)
    assert process.returncode == 0
