"""`fsmrt logs`: any run, finished or not, by whatever one remembers of its name."""

from __future__ import annotations

import os
from typing import Any

import pytest

from fsmrt.cli.logs import Log
from fsmrt.cli.usage import UsageError
from fsmrt.evidence.events import Event, encode_line

from .conftest import lines_until

CONTRACT = "version: 1\nsecurity: {mode: system}\ntests: {cmds: [echo to be seen, 'echo oops >&2; exit 3']}\n"


def test_the_newest_run_is_told(user: Any) -> None:
    user.contract(CONTRACT)
    user.types("run")
    (older,) = user.runs()
    user.types("run")
    (newest,) = set(user.runs()) - {older}  # two runs of one second sort by chance
    done = user.types("logs")
    assert done.returncode == 0
    assert newest.name in done.stdout
    for said in ("command 1 of 1: echo to be seen", "│ to be seen", "│ oops", "exit code 3", "stage_failed"):
        assert said in done.stdout


def test_a_run_is_found_by_id_beginning_and_path(user: Any) -> None:
    user.contract(CONTRACT)
    user.types("run")
    run = user.runs()[0]
    for name in (run.name, run.name[:-3], str(run), f".aider_fsm/artifacts/{run.name}"):
        assert run.name in user.types("logs", name).stdout


def test_a_name_must_fit_one_run(user: Any) -> None:
    user.contract(CONTRACT)
    assert "no run is recorded here" in user.types("logs").stderr
    user.types("run")
    user.types("run")
    ambiguous = user.types("logs", user.runs()[0].name[:4])
    assert (ambiguous.returncode, "fits 2 runs" in ambiguous.stderr) == (2, True)
    assert user.types("logs", "nonsense").returncode == 2


def test_json_is_the_record(user: Any) -> None:
    user.contract(CONTRACT)
    user.types("run")
    assert user.types("logs", "--json").stdout == (user.runs()[0] / "events.jsonl").read_text()


def test_following_ends_with_the_run(user: Any) -> None:
    user.contract(
        "version: 1\nsecurity: {mode: system}\ntests: {cmds: ['echo early; cat fifo; echo late']}\n"
    )
    fifo = user.repository / "fifo"
    os.mkfifo(fifo)
    run = user.starts("run", "--quiet")
    with fifo.open("w"):
        assert "-f follows it" in user.types("logs").stderr
        logs = user.starts("logs", "-f")
        lines_until(logs.stdout, "│ early")
    rest, _ = logs.communicate(timeout=60)
    run.communicate(timeout=60)
    assert "│ late" in rest
    assert "run finished" in rest.splitlines()[-1]
    assert logs.returncode == 0


def test_following_a_dead_run_does_not_wait_for_ever(user: Any) -> None:
    user.contract("version: 1\nsecurity: {mode: system}\ntests: {cmds: [cat fifo]}\n")
    fifo = user.repository / "fifo"
    os.mkfifo(fifo)
    run = user.starts("run", "--quiet")
    with fifo.open("w"):
        run.kill()
        run.wait()
        done = user.types("logs", "-f")
    assert done.returncode == 0
    assert "fsmrt gc" in done.stderr


@pytest.mark.parametrize("cut", range(0, 400, 23))
def test_a_line_is_told_once_and_only_when_whole(tmp_path: Any, cut: int) -> None:
    events = [Event(run_id="r", seq=n, t_ms=n, type="checkpoint", prev="0" * 64, data={}) for n in range(2)]
    whole = b"".join(map(encode_line, events))
    log = Log(tmp_path / "events.jsonl")
    assert list(log.new()) == []
    (tmp_path / "events.jsonl").write_bytes(whole[:cut])
    first = list(log.new())
    (tmp_path / "events.jsonl").write_bytes(whole)
    assert [*first, *log.new()] == events


def test_of_two_runs_in_one_second_the_later_one_is_the_newest(user: Any) -> None:
    user.contract(CONTRACT)
    user.types("run")
    (run,) = user.runs()
    earlier = run.with_name(run.name[:-10] + "g" * 10)
    earlier.mkdir()
    (earlier / "events.jsonl").touch()
    os.utime(earlier, (1, 1))
    assert "to be seen" in user.types("logs").stdout


def test_a_record_that_may_not_be_read_is_no_bug(tmp_path: Any) -> None:
    (tmp_path / "events.jsonl").mkdir()
    with pytest.raises(UsageError, match="Is a directory"):
        list(Log(tmp_path / "events.jsonl").new())
