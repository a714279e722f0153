"""The views of a run: the same events as lines, as a moving table, and as they are."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fsmrt.cli.live import LiveView
from fsmrt.cli.narration import EventStream, Narration
from fsmrt.cli.output import Output
from fsmrt.cli.picture import Picture
from fsmrt.cli.plain import PlainView
from fsmrt.cli.tails import Tail, last_line
from fsmrt.evidence.events import Event


def event(seconds: float, type_: str, **data: Any) -> Event:
    return Event(run_id="r", seq=0, t_ms=int(seconds * 1000), type=type_, prev="", data=data)


def started(seconds: float, cmd_id: str, shell: str, number: int = 1) -> Event:
    path = f"full_attempt_01/tests_{cmd_id}"
    return event(
        seconds, "command_started", cmd_id=cmd_id, stage="tests", shell=shell, path=path, **{"try": number}
    )


def finished(seconds: float, cmd_id: str, code: int = 0) -> Event:
    return event(seconds, "command_finished", cmd_id=cmd_id, exit_code=code, duration_ms=100.0)


def stage_finished(seconds: float, *, ok: bool) -> Event:
    reason = None if ok else "stage_failed"
    return event(seconds, "stage_finished", stage="tests", ok=ok, reason=reason, duration_ms=900.0)


STORY = [
    event(0, "run_started", sandbox="host", containment={"kind": "cgroup"}),
    event(0.1, "stage_started", stage="tests"),
    started(0.2, "c1", "make build"),
    finished(0.3, "c1", 2),
    started(0.4, "c2", "make build", 2),
    finished(0.5, "c2"),
    started(0.6, "c3", "make test"),
    finished(0.9, "c3", 1),
    stage_finished(1, ok=False),
    event(1.1, "run_finished", verdict="no_verdict", reason="stage_failed"),
]


def test_a_picture_adds_the_events_up() -> None:
    picture = Picture([("tests", 2), ("evaluation", 1), ("rollout", 0)])
    for one in STORY[:5]:
        picture.apply(one)
    running = picture.in_flight
    assert running is not None
    assert (running.text, running.number, running.of, running.tries) == ("make build", 1, 2, 2)
    for one in STORY[5:]:
        picture.apply(one)
    assert [(row.stage, row.status, row.number) for row in picture.stages] == [
        ("tests", "failed", 2),
        ("evaluation", "left_out", 0),
    ]
    assert picture.in_flight is None


def lines_of(tmp_path: Path, events: list[Event], *, verbose: bool = False) -> list[str]:
    to = io.StringIO()
    view = PlainView(Output(to), Picture([("tests", 2)]), tmp_path / "run", verbose=verbose)
    for one in events:
        view.event(one)
        view.pulse(one.t_ms / 1000)
    view.close()
    return [line.strip() for line in to.getvalue().splitlines()]


def test_plain_lines_are_changes_of_state(tmp_path: Path) -> None:
    assert lines_of(tmp_path, STORY) == [
        "0.00s  run run on host, no wall, cgroup",
        "0.10s  tests: 2 commands",
        "0.40s  tests, command 1 of 2, try 2",
        "1.00s  tests: failed, stage_failed, after 0.90s",
    ]


def test_verbose_lines_are_commands_too(tmp_path: Path) -> None:
    assert "0.90s  exit code 1, after 0.10s" in lines_of(tmp_path, STORY, verbose=True)


def test_a_quiet_command_gives_a_sign_of_life_each_minute(tmp_path: Path) -> None:
    to = io.StringIO()
    view = PlainView(Output(to), Picture([("tests", 1)]), tmp_path)
    view.event(started(10, "c1", "sleep 600"))
    for now in range(10, 200):
        view.pulse(float(now))
    beats = [line.strip() for line in to.getvalue().splitlines()]
    assert [beat.split("  ")[0] for beat in beats] == ["1m10s", "2m10s", "3m10s"]
    assert beats[0].endswith("still running: tests, command 1 of 1, for 1m00s: sleep 600")


@pytest.mark.parametrize("width", [20, 60, 200])
def test_the_table_fits_any_width(
    tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    (tmp_path / "full_attempt_01").mkdir()
    (tmp_path / "full_attempt_01" / "tests_c3_stdout.txt").write_text("y" * 500)
    view = LiveView(Picture([("tests", 2), ("evaluation", 9)]), tmp_path, "a title " * 20, color=False)
    for one in STORY[:7]:
        view.event(one)
        view.pulse(0.7)
    with view._live.console.capture() as drawn:
        view._live.console.print(view._moving())
    lines = drawn.get().splitlines()
    assert len(lines) == 5
    assert max(map(len, lines)) <= width
    view.close()
    capsys.readouterr()


def test_a_terminal_gets_a_table_that_stays_and_its_cursor_back(user: Any) -> None:
    user.contract("version: 1\nsecurity: {mode: system}\ntests: {cmds: [echo hi, sleep 0.5]}\n")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fsmrt.cli", "run"],
        cwd=user.repository, env={**user.environ, "TERM": "xterm-256color"},
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = read_all(ours)
    assert process.wait(timeout=60) == 0
    assert "sleep 0.5" in shown
    end = shown[shown.rindex("2/2") :]
    assert "passed" in end
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


@pytest.mark.parametrize("words", [["--plain"], ["-v"], ["--no-color", "--plain"]])
def test_a_terminal_is_not_redrawn_where_lines_were_asked_for(user: Any, words: list[str]) -> None:
    user.contract("version: 1\nsecurity: {mode: system}\ntests: {cmds: [echo hi]}\n")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fsmrt.cli", "run", *words],
        cwd=user.repository, env={**user.environ, "TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = read_all(ours)
    assert process.wait(timeout=60) == 0
    assert "\x1b[?25l" not in shown
    assert ("\x1b[" in shown) == ("--no-color" not in words)


def read_all(descriptor: int) -> str:
    pieces: list[bytes] = []
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # the other side of a terminal is gone
            piece = b""
        if not piece:
            os.close(descriptor)
            return b"".join(pieces).decode()
        pieces.append(piece)


class Broken:
    """A view with a defect."""

    closed = False

    def event(self, event: Event) -> None:
        raise RuntimeError("a view's own fault")

    def pulse(self, now: float) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def test_narration_tells_everything_before_it_ends() -> None:
    to = io.StringIO()
    with Narration([EventStream(Output(to))]) as narration:
        for one in STORY:
            narration.observe(one)
    assert to.getvalue().count("\n") == len(STORY)


def test_a_defect_of_a_view_is_not_lost() -> None:
    view = Broken()
    with pytest.raises(RuntimeError, match="own fault"), Narration([view]) as narration:
        narration.observe(STORY[0])
    assert view.closed


def test_a_tail_gives_each_line_once_and_the_unfinished_one_at_the_end(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "out")
    assert list(tail.lines()) == []
    with (tmp_path / "out").open("wb") as file:
        for piece, lines in ((b"a\nb", ["a"]), (b"c\n", ["bc"]), (b"\xff\n\nd", ["�", ""])):
            file.write(piece)
            file.flush()
            assert list(tail.lines()) == lines
    assert list(tail.rest()) == ["d"]
    assert list(tail.rest()) == []


def test_the_last_line_is_one_with_something_on_it(tmp_path: Path) -> None:
    (tmp_path / "x_stdout.txt").write_text("first\n  10%\r  20%\r\n\n \n")
    assert last_line(tmp_path, "x") == "20%"
    assert last_line(tmp_path, "nothing") == ""
