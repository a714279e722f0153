"""`fsmrt check`: all problems at once, strictly, and a kind word when there are none."""

from __future__ import annotations

from typing import Any

import pytest

FINE = "version: 1\ntests: {timeout_seconds: 5, cmds: [a, b]}\n"


def test_a_fine_contract_gets_one_line(user: Any) -> None:
    user.contract(FINE)
    done = user.types("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "✓ pipeline.yml is fine. It runs tests (2 commands)\n"


def test_what_a_run_would_let_pass_is_an_error_here(user: Any) -> None:
    user.contract("version: 1\ntests: {timeout_second: 5, timeout_seconds: 5, cmds: [a]}\n")
    done = user.types("check")
    assert done.returncode == 2
    assert "did you mean timeout_seconds" in done.stdout


def test_a_warning_is_shown_and_is_no_error(user: Any) -> None:
    user.contract("version: 1\ntests: {cmds: [a]}\n")
    done = user.types("check")
    assert done.returncode == 0
    assert done.stdout.startswith("pipeline.yml:1:1: warning commands_without_limit: $: ")
    assert "fine (1 warning)" in done.stdout


def test_each_problem_is_said_with_its_place_its_code_and_its_path(user: Any) -> None:
    user.contract("version: 1\nsecurity: {max_cmd_seconds: 5}\ntests: {cmds: [a, 2]}\n")
    first = user.types("check").stdout.splitlines()[0]
    assert first.startswith("pipeline.yml:3:19: error not_a_string_list: $.tests.cmds[1]: must be a ")


def test_every_file_is_read(user: Any) -> None:
    user.contract("version: 2\n")
    (user.repository / ".aider_fsm").mkdir()
    (user.repository / ".aider_fsm" / "bootstrap.yml").write_text("cmds: 5\n")
    (user.repository / ".aider_fsm" / "actions.yml").write_text("actions: 5\n")
    problems = user.document("check", code=2)["problems"]
    assert {problem["file"].rpartition("/")[2] for problem in problems} == {
        "pipeline.yml", "bootstrap.yml", "actions.yml",
    }  # fmt: skip


def test_no_contract_leads_to_init(user: Any) -> None:
    done = user.types("check")
    assert done.returncode == 2
    assert "fsmrt init" in done.stdout


def test_json_when_fine(user: Any) -> None:
    user.contract(FINE)
    assert user.document("check") == {"schema": "fsmrt.problems.v1", "ok": True, "problems": []}


@pytest.mark.parametrize("text", ["tests: [\x07", "a: \x1b[31mred\n", "tests:\n\tcmds: x\n", "\udcff: 1\n"])
def test_hostile_text_is_told_without_harm(user: Any, text: str) -> None:
    (user.repository / "pipeline.yml").write_bytes(text.encode("utf-8", "surrogateescape"))
    done = user.types("check")
    assert done.returncode == 2
    assert not {"\x1b", "\x07"} & set(done.stdout + done.stderr)


def test_a_variable_that_commands_will_miss_is_named(user: Any) -> None:
    user.contract(
        "version: 1\ntests: {timeout_seconds: 5, env: {OURS: x}, cmds: ['echo $OURS $HUB', sh run.sh]}\n"
    )
    (user.repository / "run.sh").write_text("echo $DEEP $HOME\n")
    user.environ |= {"HUB": "x", "DEEP": "x", "OURS": "y"}
    problems = user.document("check")["problems"]
    assert [(problem["code"], problem["path"], problem["message"].split()[0]) for problem in problems] == [
        ("variable_not_passed", "$.tests", "HUB"),
        ("variable_not_passed", "$.tests", "DEEP"),
    ]
