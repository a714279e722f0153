"""`fsmrt gc`, `ps` and `doctor`: what is left, what lives, and what this machine can do."""

from __future__ import annotations

import os
from typing import Any

from fsmrt.lease import process_start_time


def killed_run(user: Any) -> int:
    """A run whose process was killed; the pid of the command it left."""
    user.contract("version: 1\nsecurity: {mode: system}\ntests: {cmds: ['echo $$ > fifo; sleep 60']}\n")
    os.mkfifo(user.repository / "fifo")
    run = user.starts("run", "--quiet")
    command = int((user.repository / "fifo").read_text())
    run.kill()
    run.wait()
    return command


def test_a_dry_run_names_and_touches_nothing(user: Any) -> None:
    command = killed_run(user)
    done = user.types("gc", "--dry-run")
    assert done.returncode == 0
    assert f"would end {command} " in done.stdout
    assert user.document("gc", "--dry-run")["runs"][0]["run_id"] == user.runs()[0].name
    assert process_start_time(command) is not None


def test_what_a_dead_run_left_is_ended_once(user: Any) -> None:
    command = killed_run(user)
    assert user.types("ps").stderr == "nothing runs\n"
    done = user.types("gc")
    assert done.returncode == 0
    assert f"killed {command} " in done.stdout
    assert process_start_time(command) is None
    assert "nothing was left behind" in user.types("gc").stdout


def test_ps_without_runs(user: Any) -> None:
    assert user.document("ps") == {"schema": "fsmrt.ps.v1", "runs": []}
