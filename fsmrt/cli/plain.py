"""The view where there is no terminal: one line a change, and a sign of life each minute.

0.01s  run 20260101T... on host, no wall, cgroup
0.02s  tests: 2 commands
9.31s  tests: failed, stage_failed
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..evidence.events import Event
from .output import Output, printable
from .picture import InFlight, Picture, place
from .quantities import counted, duration
from .tails import CommandTails

HEARTBEAT = 60.0


class PlainView:
    """Lines on an output. With `verbose`, every command and what it prints as well."""

    def __init__(self, to: Output, picture: Picture, run_dir: Path, *, verbose: bool = False) -> None:
        self._to = to
        self._picture = picture
        self._run_dir = run_dir
        self._verbose = verbose
        self._tails: dict[str, CommandTails] = {}
        self._beaten = 0.0

    def event(self, event: Event) -> None:
        self._picture.apply(event)
        tell = _TELLERS.get(event.type)
        if tell is not None:
            self._beaten = event.t_ms / 1000
            tell(self, event.data, self._beaten)

    def pulse(self, now: float) -> None:
        for tails in self._tails.values():
            for line in tails.lines():
                self._print(line)
        running = self._picture.in_flight
        if running is not None and now - self._beaten >= HEARTBEAT:
            self._beaten = now
            self._say(now, _sign_of_life(running, now))

    def say(self, text: str) -> None:
        self._to.line(self._to.paint(text, "yellow"))

    def close(self) -> None:
        for tails in self._tails.values():
            for line in tails.rest():
                self._print(line)

    def _say(self, now: float, text: str) -> None:
        self._to.line(f"{self._to.paint(f'{duration(now):>7}', 'dim')}  {text}")

    def _print(self, line: str) -> None:
        self._to.line(f"         {self._to.paint(self._to.mark('│'), 'dim')} {line}")

    def _run_started(self, data: Mapping[str, Any], now: float) -> None:
        self._say(now, f"run {self._run_dir.name} {place(data)}")

    def _stage_started(self, data: Mapping[str, Any], now: float) -> None:
        row = self._picture.rows[data["stage"]]
        how_many = f": {counted(row.commands, 'command')}" if row.commands else ""
        self._say(now, f"{self._to.paint(row.stage, 'bold')}{how_many}")

    def _command_started(self, data: Mapping[str, Any], now: float) -> None:
        running = self._picture.now_running[data["cmd_id"]]
        if self._verbose:
            self._say(now, f"{_place(running)}: {self._to.paint(one_line(running.text), 'cyan')}")
            self._tails[running.cmd_id] = CommandTails(self._run_dir, running.path)
        elif running.tries > 1:
            self._say(now, _place(running))

    def _command_finished(self, data: Mapping[str, Any], now: float) -> None:
        tails = self._tails.pop(data["cmd_id"], None)
        if tails is not None:
            for line in tails.rest():
                self._print(line)
        if self._verbose:
            self._say(now, f"{how_it_ended(data)}, after {duration(data['duration_ms'] / 1000)}")

    def _policy_decision(self, data: Mapping[str, Any], now: float) -> None:
        if data.get("decision") == "deny":
            self._say(now, self._to.paint(f"refused: {printable(str(data.get('reason')))}", "red"))

    def _stage_finished(self, data: Mapping[str, Any], now: float) -> None:
        took = duration(data["duration_ms"] / 1000)
        if data["ok"]:
            self._say(now, f"{data['stage']}: {self._to.paint('passed', 'green')} in {took}")
        else:
            why = f", {data['reason']}" if data.get("reason") else ""
            self._say(now, f"{data['stage']}: {self._to.paint('failed', 'red')}{why}, after {took}")

    def _contract_changed(self, data: Mapping[str, Any], now: float) -> None:
        names = ", ".join(printable(name) for name in data.get("files", ()))
        self._say(now, self._to.paint(f"the contract was changed while it ran: {names}", "yellow"))

    def _run_finished(self, data: Mapping[str, Any], now: float) -> None:
        if self._verbose:
            why = f", {data['reason']}" if data.get("reason") else ""
            self._say(now, f"run finished: {data.get('verdict')}{why}")

    def _run_recovered(self, data: Mapping[str, Any], now: float) -> None:
        self._say(now, self._to.paint("the run's process died; its record was closed later", "yellow"))


_TELLERS = {
    "run_started": PlainView._run_started,
    "stage_started": PlainView._stage_started,
    "command_started": PlainView._command_started,
    "command_finished": PlainView._command_finished,
    "policy_decision": PlainView._policy_decision,
    "stage_finished": PlainView._stage_finished,
    "contract_changed": PlainView._contract_changed,
    "run_finished": PlainView._run_finished,
    "run_recovered": PlainView._run_recovered,
}


def how_it_ended(data: Mapping[str, Any]) -> str:
    """A `command_finished` event in words."""
    if data.get("cancelled"):
        return "cancelled"
    if data.get("reason"):
        return f"ended by {data['reason']}"
    if data.get("signal") is not None:
        return f"ended by signal {data['signal']}"
    return f"exit code {data.get('exit_code')}"


def _place(running: InFlight) -> str:
    again = f", try {running.tries}" if running.tries > 1 else ""
    return f"{running.stage}, command {running.number} of {running.of}{again}"


def _sign_of_life(running: InFlight, now: float) -> str:
    return f"still running: {_place(running)}, for {duration(now - running.began)}: {one_line(running.text)}"


def one_line(text: str, limit: int = 120) -> str:
    """Foreign text of any length on one line of ours."""
    shown = " ".join(printable(line).strip() for line in text.strip().splitlines())
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."
