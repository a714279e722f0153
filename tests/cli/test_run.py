"""`fsmrt run` as a program: exit codes, what is on which stream, and what a person reads at the end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fsmrt.evidence.events import verify_chain

PASSING = "version: 1\nsecurity: {mode: system}\ntests: {cmds: [echo fine]}\n"
SCORED = """\
    version: 1
    security: {mode: system}
    evaluation:
      run_cmds: ['echo "{\\"ok\\": true, \\"score\\": 0.25}" > .aider_fsm/metrics.json']
      metrics_path: .aider_fsm/metrics.json
    """


def failing(command: str, more: str = "") -> str:
    return f"version: 1\nsecurity: {{mode: system}}\ntests:\n  cmds: ['{command}']\n{more}"


@pytest.mark.parametrize(
    ("contract", "words", "code"),
    [
        (PASSING, [], 0),
        (failing("exit 7"), [], 1),
        (failing("sleep 60", "  timeout_seconds: 1\n"), [], 1),
        (failing("rm -rf /"), [], 1),
        ("version: 2\n", [], 2),
        (PASSING, ["--stages", "nonsense"], 2),
        (PASSING, ["--sandbox", "docker"], 4),
        (PASSING.replace("system", "safe"), [], 4),
        (PASSING, ["--observe", "kernel=require"], 4),
        (failing("sleep 60"), ["--timeout", "500ms"], 124),
    ],
)
def test_exit_codes(user: Any, contract: str, words: list[str], code: int) -> None:
    user.contract(contract)
    done = user.types("run", *words)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_json_is_one_document_and_nothing_else(user: Any) -> None:
    user.contract(SCORED)
    result = user.document("run")
    assert (result["schema"], result["verdict"], result["reward"]) == ("fsmrt.result.v1", "scored", 0.25)
    assert result["evidence"]["dir"] == str(user.runs()[0])


def test_json_of_a_run_that_never_began(user: Any) -> None:
    user.contract(PASSING)
    result = user.document("run", "--sandbox", "bwrap", code=4)
    assert (result["reason"], result["evidence"]["dir"]) == ("preflight_failed", None)
    assert user.runs() == []


def test_json_of_a_broken_contract_lists_its_problems(user: Any) -> None:
    user.contract("version: 2\ntests: 5\n")
    answer = user.document("run", code=2)
    assert (answer["schema"], answer["ok"]) == ("fsmrt.problems.v1", False)
    assert len(answer["problems"]) == 2


def test_a_broken_contract_is_drawn_with_a_caret(user: Any) -> None:
    user.contract("version: 1\ntests:\n  cmds: 3\n")
    done = user.types("run")
    assert done.stdout == ""
    place, line, caret = done.stderr.splitlines()[:3]
    assert place.startswith("pipeline.yml:3:9: error not_a_string_list: $.tests.cmds: ")
    assert line.index("3", 5) == caret.index("^")
    assert not (user.repository / ".aider_fsm").exists()


def test_events_on_stdout_are_the_record_itself(user: Any) -> None:
    user.contract(PASSING)
    done = user.types("run", "--events", "-")
    assert done.returncode == 0
    assert done.stdout == (user.runs()[0] / "events.jsonl").read_text()
    assert verify_chain(user.runs()[0]) == []


def test_events_into_a_file_beside_the_result(user: Any) -> None:
    user.contract(PASSING)
    result = user.document("run", "--events", "stream.ndjson")
    events = [json.loads(line) for line in (user.repository / "stream.ndjson").read_text().splitlines()]
    assert events[-1]["type"] == "run_finished"
    assert {event["run_id"] for event in events} == {result["run_id"]}


def test_a_reader_of_events_may_leave(user: Any) -> None:
    user.contract(PASSING)
    done = user.types("run", "--events", "/dev/full")
    assert done.returncode == 0
    assert "has all events" in done.stderr
    assert verify_chain(user.runs()[0]) == []


def test_two_things_cannot_both_have_stdout(user: Any) -> None:
    user.contract(PASSING)
    done = user.types("run", "--json", "--events", "-")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--events a file" in done.stderr


@pytest.mark.parametrize("words", [["--repair", "3"], ["--image", "x"], ["--unknown"], ["--time", "3"]])
def test_unknown_and_shortened_flags_are_errors(user: Any, words: list[str]) -> None:
    user.contract(PASSING)
    done = user.types("run", *words)
    assert done.returncode == 2
    assert "unrecognized arguments" in done.stderr


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("https://example.org/x.git", "local folders only"),
        ("git@example.org:x/y", "local folders only"),
        ("owner/name", "clone it first"),
        ("./nothing/here", "no such folder"),
        ("pipeline.yml", "is a file"),
    ],
)
def test_a_target_that_cannot_be(user: Any, target: str, said: str) -> None:
    user.contract(PASSING)
    done = user.types("run", target)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_failure_says_what_where_and_how_to_see_it_again(user: Any) -> None:
    (user.repository / "sub dir").mkdir()
    user.contract(
        failing(
            'echo one; echo two >&2; "$AIDER_FSM_PYTHON" -c "raise SystemExit(3)"', "  workdir: sub dir\n"
        )
    )
    done = user.types("run")
    assert "│ one" in done.stdout
    assert "│ two" in done.stdout
    assert "exit code 3" in done.stdout
    assert "tests failed: stage_failed" in done.stdout.splitlines()[-1]
    again = re.search(r"reproduce +(.*)", done.stdout)
    assert again is not None
    assert subprocess.run(["sh", "-c", again[1]], capture_output=True, check=False).returncode == 3
    evidence = re.search(r"evidence +(.*)_\*", done.stdout)
    assert evidence is not None
    assert Path(f"{evidence[1]}_stdout.txt").read_text() == "one\n"


@pytest.mark.parametrize(
    ("more", "words", "knob"),
    [
        ("  timeout_seconds: 1\n", [], "tests.timeout_seconds in the contract"),
        ("", ["--timeout", "300ms"], "--timeout"),
        ("", ["--env", "AIDER_FSM_MAX_CMD_SECONDS=1"], "security.max_cmd_seconds"),
    ],
)
def test_a_limit_names_its_knob(user: Any, more: str, words: list[str], knob: str) -> None:
    user.contract(failing("sleep 60", more))
    assert re.search(rf"knob +{re.escape(knob)}", user.types("run", *words).stdout)


def test_the_output_limit_names_its_knob(user: Any) -> None:
    user.contract(failing("yes"))
    done = user.types("run", "--output-bytes", "64k")
    assert done.returncode == 1
    assert re.search(r"knob +--output-bytes", done.stdout)


def test_quiet_is_one_line(user: Any) -> None:
    user.contract(failing("exit 1"))
    done = user.types("run", "--quiet")
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("words", [[], ["-q"]])
def test_a_run_that_is_refused_says_why_in_one_line(user: Any, words: list[str]) -> None:
    user.contract("version: 1\nsecurity: {mode: safe}\ntests: {cmds: ['true']}\n")
    done = user.types("run", *words)
    assert done.returncode == 4
    (line,) = done.stdout.splitlines()
    assert line.startswith("✗ not started: preflight_failed: security.mode is safe")
    assert "--sandbox host" in line


def test_verbose_shows_commands_and_output_as_they_come(user: Any) -> None:
    user.contract(failing("echo seen; printf unfinished"))
    lines = user.types("run", "-v").stderr.splitlines()
    assert any(line.endswith("command 1 of 1: echo seen; printf unfinished") for line in lines)
    assert [line.split("│ ")[1] for line in lines if "│" in line] == ["seen", "unfinished"]


def test_output_cannot_steer_the_readers_terminal(user: Any) -> None:
    user.contract(failing(r'printf "a\033]0;title\007b\033[2Jc\rover\n"; exit 1'))
    done = user.types("run", "-v")
    assert "\x1b" not in done.stdout + done.stderr
    assert "over" in done.stdout


def test_warnings_are_said_once(user: Any) -> None:
    user.contract(PASSING)
    done = user.types("run")
    assert done.stdout.count("no_wall") == 1
    assert "on host, no wall" in done.stderr.splitlines()[0]


def test_a_missing_variable_is_named_with_its_flag(user: Any) -> None:
    user.contract(failing('test -n "$MY_SETTING"'))
    assert "--env MY_SETTING" in user.types("run", MY_SETTING="x").stdout
    assert user.types("run", "--env", "MY_SETTING", MY_SETTING="x").returncode == 0


def test_a_variable_that_the_contract_sets_is_not_missed(user: Any) -> None:
    user.contract(failing("echo $OURS $PREPARED; false", "  env: {OURS: x}\n"))
    (user.repository / ".aider_fsm").mkdir()
    (user.repository / ".aider_fsm" / "bootstrap.yml").write_text("env: {PREPARED: y}\n")
    assert "not passed" not in user.types("run", OURS="theirs", PREPARED="theirs").stdout


def test_a_secret_reaches_commands_and_nothing_else(user: Any) -> None:
    user.contract(failing('echo "got $DEPLOY_CODE"; exit 1'))
    done = user.types("run", "-v", "--secret", "DEPLOY_CODE", DEPLOY_CODE="hunter2-hunter2")
    assert "got " in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    written = [path.read_bytes() for path in user.runs()[0].rglob("*") if path.is_file()]
    assert all(b"hunter2" not in content for content in written)


def test_a_closed_stdout_is_no_failure(user: Any) -> None:
    user.contract(PASSING)
    reading, writing = os.pipe()
    process = user.starts("run", stdout=writing)
    os.close(writing)
    os.close(reading)
    _, told = process.communicate()
    assert process.returncode == 0
    assert "Traceback" not in told
    assert "Broken" not in told


def test_no_standard_streams_at_all(user: Any) -> None:
    user.contract(PASSING)
    line = '"$PYTHON" -m fsmrt.cli run <&- >&- 2>&-'
    environ = {**user.environ, "PYTHON": sys.executable}
    done = subprocess.run(["sh", "-c", line], cwd=user.repository, env=environ, timeout=60, check=False)
    assert done.returncode == 0
    assert (user.runs()[0] / "verdict.json").exists()


def test_two_runs_on_one_tree(user: Any) -> None:
    user.contract(failing("cat fifo"))
    fifo = user.repository / "fifo"
    os.mkfifo(fifo)
    first = user.starts("run", "--quiet")
    with fifo.open("w"):  # opens once the command reads
        second = user.types("run", "--quiet")
        live = user.document("ps")["runs"]
    first.communicate()
    assert (first.returncode, second.returncode) == (0, 4)
    assert "repo_busy" in second.stdout
    assert [(run["stage"], run["command"], run["pid"]) for run in live] == [("tests", "cat fifo", first.pid)]


@pytest.mark.parametrize("folder", ["state", "repository"])
def test_a_place_that_cannot_be_written_is_preflight(user: Any, folder: str) -> None:
    user.contract(PASSING)
    blocked = user.home / "state" if folder == "state" else user.repository / ".aider_fsm"
    blocked.write_text("a file where a folder belongs")
    done = user.types("run")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "preflight_failed" in done.stdout


def test_a_redaction_key_others_can_read_is_preflight(user: Any) -> None:
    user.contract(PASSING)
    assert user.types("run").returncode == 0
    (user.home / "state" / "redaction.key").chmod(0o644)
    done = user.types("run")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "readable by others" in done.stdout
