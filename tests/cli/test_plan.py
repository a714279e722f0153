"""`fsmrt plan`: the truth about a run before there is one."""

from __future__ import annotations

from typing import Any

CONTRACT = """\
    version: 1
    security: {mode: system, max_cmd_seconds: 60, max_total_seconds: 90}
    tests: {timeout_seconds: 30, retries: 2, cmds: [sh run.sh, rm -rf /], env: {WITH: this}}
    evaluation: {run_cmds: [echo], metrics_path: .aider_fsm/metrics.json}
    deploy: {teardown_cmds: [echo bye], workdir: nowhere}
    """


def test_the_plan_says_what_a_run_would_do(user: Any) -> None:
    user.contract(CONTRACT)
    (user.repository / "run.sh").write_text("touch executed\n")
    plan = user.document("plan", "--timeout", "5m")
    tests, evaluation, teardown = plan["stages"]
    assert [stage["stage"] for stage in plan["stages"]] == ["tests", "evaluation", "deploy_teardown"]
    assert [command["refused"] for command in tests["commands"]] == [None, "blocked_by_hard_deny: rm_root"]
    assert tests["commands"][0]["scripts"] == ["run.sh"]
    assert tests["commands"][0]["retries"] == 2
    assert tests["try_seconds"] == {"value": 30, "source": "tests.timeout_seconds"}
    assert tests["stage_seconds"] == {"value": 90, "source": "security.max_total_seconds"}
    assert tests["env"] == ["WITH"]
    assert evaluation["try_seconds"] == {"value": 60, "source": "security.max_cmd_seconds"}
    assert evaluation["expects"][0] == ".aider_fsm/metrics.json"
    assert "does not exist" in teardown["problem"]
    assert plan["limits"]["run_timeout"] == {"value": 300, "source": "--timeout"}
    assert plan["sandbox"]["kind"] == "host"


def test_nothing_is_executed_and_nothing_is_left(user: Any) -> None:
    user.contract("version: 1\nsecurity: {mode: system}\ntests: {cmds: [touch executed]}\n")
    assert user.types("plan").returncode == 0
    assert [path.name for path in user.repository.iterdir()] == ["pipeline.yml"]


def test_names_are_shown_and_values_are_not(user: Any) -> None:
    user.contract(CONTRACT)
    words = ["plan", "--env", "PLAIN=visible-value", "--secret", "CODE", "--env", "API_TOKEN=token-value"]
    for more in ([], ["--json"]):
        done = user.types(*words, *more, CODE="code-value", LC_ALL="C.UTF-8")
        assert {"PLAIN", "CODE", "API_TOKEN", "LC_ALL"} <= set(
            done.stdout.replace('"', " ").replace(",", " ").split()
        )
        assert "-value" not in done.stdout


def test_a_refusal_is_foretold_and_said_last(user: Any) -> None:
    user.contract("version: 1\ntests: {timeout_seconds: 5, cmds: [sudo reboot]}\n")
    done = user.types("plan")
    assert done.returncode == 0
    *_, start, fail = done.stdout.splitlines()
    assert start.startswith("would not start: security.mode is safe")
    assert fail == "would fail: tests: blocked_by_default_safe_deny: privilege"


def test_each_setting_says_where_it_came_from(user: Any) -> None:
    user.contract(CONTRACT)
    user.configures('timeout = "1h"\nredaction = "shapes_only"\n')
    done = user.types("plan", "--redaction", "full", FSMRT_SANDBOX="host")
    said = next(line for line in done.stdout.splitlines() if line.startswith("options"))
    assert "sandbox = host (FSMRT_SANDBOX)" in said
    assert f"timeout = 3600.0 ({user.home}/config/fsmrt/config.toml)" in said
    assert "redaction = full (--redaction)" in said


def test_a_broken_contract_has_no_plan(user: Any) -> None:
    user.contract("version: 2\n")
    assert user.types("plan").returncode == 2
    assert user.document("plan", code=2)["schema"] == "fsmrt.problems.v1"


def test_a_wrong_user_file_is_a_usage_error(user: Any) -> None:
    user.contract(CONTRACT)
    user.configures("sandbox = [")
    done = user.types("plan")
    assert done.returncode == 2
    assert "config.toml" in done.stderr


def test_the_limits_of_the_environment_are_named(user: Any) -> None:
    user.contract(CONTRACT)
    plan = user.document("plan", "--env", "AIDER_FSM_MAX_CMD_SECONDS=7")
    assert plan["limits"]["max_cmd_seconds"] == {"value": 7, "source": "AIDER_FSM_MAX_CMD_SECONDS (operator)"}
    assert plan["stages"][1]["try_seconds"]["value"] == 7
