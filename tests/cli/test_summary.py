"""The end of a run, in words."""

from __future__ import annotations

import io
import re
import subprocess
from typing import Any

import pytest

from fsmrt.cli.output import Output
from fsmrt.cli.summary import headline, knob
from fsmrt.messages import RunResult, StageReport, Target
from fsmrt.verdict import Reason


@pytest.mark.parametrize(
    ("limit", "stage", "said"),
    [
        ("timeout_seconds", "tests", "tests.timeout_seconds in the contract"),
        ("timeout_seconds", "deploy_setup", "deploy.timeout_seconds in the contract"),
        ("timeout_seconds", "bootstrap", "timeout_seconds in .aider_fsm/bootstrap.yml"),
        ("timeout_seconds", "actions", "timeout_seconds of the action in .aider_fsm/actions.yml"),
        (
            "max_total_seconds_exceeded: 5",
            "tests",
            "security.max_total_seconds in the contract, or --env AIDER_FSM_MAX_TOTAL_SECONDS=...",
        ),
        ("run_timeout", "tests", "--timeout"),
        ("output_bytes", "tests", "--output-bytes"),
    ],
)
def test_every_limit_has_a_knob(limit: str, stage: str, said: str) -> None:
    assert knob(limit, stage) == said


def test_tries_and_long_output_are_cut_to_what_helps(user: Any) -> None:
    user.contract("version: 1\nsecurity: {mode: system}\ntests: {retries: 1, cmds: ['seq 100; exit 1']}\n")
    lines = user.types("run").stdout.splitlines()
    assert lines[0] == "$ seq 100; exit 1  (after 2 tries)"
    assert lines[1].strip() == "│ ... 292 bytes in tests_cmd01_try02_stdout.txt"
    assert [line.strip() for line in lines[2:17]] == [f"│ {number}" for number in range(86, 101)]


def test_a_metrics_failure_shows_the_complaint(user: Any) -> None:
    user.contract(
        "version: 1\nsecurity: {mode: system}\n"
        "evaluation: {run_cmds: [echo], metrics_path: .aider_fsm/metrics.json}\n"
    )
    done = user.types("run")
    assert done.returncode == 1
    assert "metrics_file_missing: .aider_fsm/metrics.json" in done.stdout
    assert "reproduce" not in done.stdout


def test_a_variable_of_the_stage_is_part_of_the_reproduction_unless_secret(user: Any) -> None:
    user.contract(
        "version: 1\nsecurity: {mode: system}\n"
        "tests:\n  env: {WORD: two words, API_KEY: not-to-be-shown}\n"
        "  cmds: ['echo $WORD $API_KEY; exit 1']\n"
    )
    (line,) = (line for line in user.types("run").stdout.splitlines() if "reproduce" in line)
    assert "WORD='two words' sh -c" in line
    assert "not-to-be-shown" not in line


def test_a_long_line_is_cut(user: Any) -> None:
    user.contract(
        "version: 1\nsecurity: {mode: system}\ntests: {cmds: ['head -c 5000 /dev/zero | tr \"\\0\" x; exit 1']}\n"
    )
    (line,) = (line for line in user.types("run").stdout.splitlines() if "xxx" in line)
    assert line == f"  │ {'x' * 400}..."


def test_the_reproduction_does_to_the_callers_shell_nothing(user: Any) -> None:
    user.contract(
        "version: 1\nsecurity: {mode: system}\ntests: {workdir: sub, cmds: ['pwd >a & pwd >b; wait; exit 3']}\n"
    )
    folder = user.repository / "sub"
    folder.mkdir()
    again = re.search(r"reproduce +(.*)", user.types("run").stdout)
    assert again is not None
    for name in ("a", "b"):
        (folder / name).unlink()

    pasted = subprocess.run(["sh", "-c", f"{again[1]}\necho still here"], stdout=subprocess.PIPE, check=False)

    assert pasted.stdout == b"still here\n"
    assert [(folder / name).read_text() for name in ("a", "b")] == [f"{folder}\n"] * 2


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ((), "without teardown"),
        ((StageReport(stage="deploy_teardown", attempt="a", ok=True),), "and torn down"),
        ((StageReport(stage="deploy_teardown", attempt="a", ok=False),), "and teardown did not get through"),
    ],
)
def test_an_interrupted_run_says_what_became_of_teardown(stages: tuple[StageReport, ...], said: str) -> None:
    result = RunResult(
        run_id="r", ok=False, verdict="cancelled", reason=Reason.INTERRUPTED, message="stopped by SIGINT",
        reward=None, failed_stage="tests", target=Target(kind="path", path="/r"), sandbox=None, stages=stages,
        run_dir="/r/runs/r",
    )  # fmt: skip
    assert headline(result, Output(io.StringIO())) == f"x interrupted, {said}"
