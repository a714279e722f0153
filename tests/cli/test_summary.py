"""The end of a run, in words."""

from __future__ import annotations

from typing import Any

import pytest

from fsmrt.cli.summary import knob


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
