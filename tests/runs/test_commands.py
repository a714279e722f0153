"""How commands end, are tried again, are refused and are stopped by limits."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from fsmrt.result import document
from fsmrt.sandbox.cgroup import remove_group
from tests.runs.repo import Repo, evaluation, groups_of, processes_of, until

pytestmark = pytest.mark.anyio

SUCCEEDS_THE_SECOND_TIME = "echo one >> tried; test $(wc -l < tried) -eq 2"
NEVER_ENDS = "echo before; echo trouble >&2; sleep 600; echo after"


def gate(*commands: str, **common: Any) -> dict[str, Any]:
    return {"cmds": list(commands), **common}


async def test_the_second_try_may_succeed(repo: Repo) -> None:
    ran = await repo.contract(tests=gate("true", SUCCEEDS_THE_SECOND_TIME, "echo last", retries=2)).run()

    assert ran.result.ok
    assert [(one.path.rsplit("/")[-1], one.rc) for one in ran.tries("tests")] == [
        ("tests_cmd01_try01", 0),
        ("tests_cmd02_try01", 1),
        ("tests_cmd02_try02", 0),
        ("tests_cmd03_try01", 0),
    ]
    summary = ran.json("tests_summary.json")
    assert (summary["ok"], summary["failed_index"], summary["total_results"]) == (True, None, 4)


async def test_the_last_failed_try_ends_the_stage(repo: Repo) -> None:
    ran = await repo.contract(tests=gate("true", "echo $AIDER_FSM_NONCE; exit 9", "true", retries=1)).run()

    assert [one.rc for one in ran.tries("tests")] == [0, 9, 9]
    assert ran.json("tests_summary.json")["failed_index"] == 2


async def test_every_try_leaves_four_files_and_the_last_has_the_name_of_the_stage(repo: Repo) -> None:
    ran = await repo.contract(tests=gate(f"{SUCCEEDS_THE_SECOND_TIME} && echo done", retries=1)).run()

    for name in ("cmd.txt", "stdout.txt", "stderr.txt", "result.json"):
        first, last, alias = (
            ran.path(f"tests_{prefix}{name}") for prefix in ("cmd01_try01_", "cmd01_try02_", "")
        )
        assert first.stat().st_nlink == 1
        assert alias.stat().st_ino == last.stat().st_ino
    assert ran.text("tests_stdout.txt") == "done\n"
    result = ran.json("tests_result.json")
    assert (result["rc"], result["timed_out"], result["refused"], result["stdout_bytes"]) == (
        0,
        False,
        False,
        5,
    )
    assert result["started_at"].endswith("Z")


async def test_a_refusal_is_not_tried_again(repo: Repo) -> None:
    ran = await repo.contract(tests=gate("touch before", "sudo true", "touch after", retries=3)).run()

    assert ran.verdict == (False, "no_verdict", "command_refused", "tests", None)
    assert ran.result.message == "blocked_by_default_safe_deny: privilege: sudo true"
    refused = ran.tries("tests")[-1]
    assert (len(ran.tries("tests")), refused.rc, refused.refused) == (
        2, 126, "blocked_by_default_safe_deny: privilege",
    )  # fmt: skip
    assert ran.text("tests_stderr.txt") == "blocked_by_default_safe_deny: privilege\n"
    assert ran.json("tests_result.json")["refused"] is True
    assert [(record["decision"], record["cmd_id"]) for record in ran.layer("policy")] == [
        ("allow", "c0001"), ("deny", "c0002"),
    ]  # fmt: skip
    assert [(d["cmd_id"], d["decision"]) for d in ran.events_of("policy_decision")] == [("c0002", "deny")]
    assert not (repo.root / "after").exists()


async def test_a_script_is_read_before_it_is_executed(repo: Repo) -> None:
    repo.write("run.sh", "touch made\nsudo true\n")

    ran = await repo.contract(tests=gate("sh run.sh")).run()

    assert ran.tries("tests")[0].refused == "blocked_by_script_denylist: privilege"
    assert not (repo.root / "made").exists()


@pytest.mark.parametrize(
    ("security", "reason"),
    [
        ({"denylist": ["secret_tool"]}, "blocked_by_denylist: secret_tool"),
        ({"allowlist": ["^make "]}, "blocked_by_allowlist"),
    ],
)
async def test_the_lists_of_the_contract_hold(repo: Repo, security: dict[str, Any], reason: str) -> None:
    ran = await repo.contract(security=security, tests=gate("echo secret_tool")).run()

    assert ran.tries("tests")[0].refused == reason


async def test_the_rules_of_safe_mode_hold_on_the_host_and_are_off_in_system_mode(repo: Repo) -> None:
    safe = await repo.contract(tests=gate("dd --version")).run()
    system = await repo.contract(security={"mode": "system"}, tests=gate("dd --version")).run()

    assert safe.tries("tests")[0].rc == 126
    assert system.tries("tests")[0].rc == 0
    assert any(warning.startswith("no_wall") for warning in safe.result.warnings)


async def test_a_try_that_takes_too_long_is_ended_and_what_it_printed_is_kept(repo: Repo) -> None:
    ran = await repo.contract(tests=gate(NEVER_ENDS, timeout_seconds=1)).run()

    assert ran.verdict == (False, "no_verdict", "stage_timeout", "tests", None)
    one = ran.tries("tests")[0]
    assert (one.rc, one.timed_out, one.limit, one.signal) == (124, True, "timeout_seconds", None)
    assert 1 <= one.seconds < 3
    assert ran.text("tests_stdout.txt") == "before\n"
    assert ran.text("tests_stderr.txt") == "trouble\n\n[fsmrt] timeout_seconds\n"
    assert ran.events_of("command_finished")[0]["timed_out"] is True


@pytest.mark.slow
async def test_a_try_limit_leaves_the_next_try_its_own_time(repo: Repo) -> None:
    command = "test -e once && exit 0; touch once; sleep 600"
    ran = await repo.contract(tests=gate(command, timeout_seconds=1, retries=1)).run()

    assert ran.result.ok
    assert [one.timed_out for one in ran.tries("tests")] == [True, False]


async def test_the_security_limit_of_a_try_wins_where_it_is_shorter(repo: Repo) -> None:
    repo.contract(security={"max_cmd_seconds": 1}, tests=gate("sleep 600", timeout_seconds=600))

    ran = await repo.run()

    assert ran.tries("tests")[0].limit == "max_cmd_seconds"


async def test_a_stage_limit_ends_the_stage_without_another_try(repo: Repo) -> None:
    repo.contract(security={"max_total_seconds": 1}, tests=gate("sleep 600", retries=5))

    ran = await repo.run()

    assert ran.verdict == (False, "no_verdict", "stage_timeout", "tests", None)
    assert [one.limit for one in ran.tries("tests")] == ["max_total_seconds_exceeded: 1"]


@pytest.mark.slow
async def test_the_operators_limits_replace_those_of_the_contract(repo: Repo) -> None:
    repo.contract(security={"max_cmd_seconds": 600}, tests=gate("sleep 600"))

    ran = await repo.run(env={"AIDER_FSM_MAX_CMD_SECONDS": "1"})

    assert ran.tries("tests")[0].limit == "max_cmd_seconds"


async def test_the_runs_limit_ends_the_command_and_teardown_follows(repo: Repo) -> None:
    repo.contract(
        tests=gate("sleep 600", retries=5),
        rollout={"run_cmds": ["touch rolled"]},
        deploy={"teardown_cmds": ["sleep 0.2; touch torn_down"]},
    )

    ran = await repo.run(timeout=0.5)

    assert ran.verdict == (False, "no_verdict", "run_timeout", "tests", None)
    assert ran.code == 124
    assert [(one.rc, one.limit) for one in ran.tries("tests")] == [(124, "run_timeout")]
    assert (repo.root / "torn_down").exists()
    assert not (repo.root / "rolled").exists()


async def test_the_runs_limit_between_two_stages_starts_nothing_more(repo: Repo) -> None:
    repo.contract(tests=gate("sleep 0.4"), rollout={"run_cmds": ["sleep 600"]})

    ran = await repo.run(timeout=0.6)

    assert ran.verdict[2:4] == ("run_timeout", "rollout")


async def test_output_beyond_the_limit_ends_the_command(repo: Repo) -> None:
    ran = await repo.contract(tests=gate("yes", retries=3)).run(output_bytes=100_000)

    one = ran.tries("tests")[0]
    assert ran.verdict[2] == "stage_failed"
    assert (one.rc, one.output_limit, one.timed_out, one.limit) == (124, True, False, "output_bytes")
    assert ran.text("tests_stderr.txt").endswith("[fsmrt] output_bytes\n")
    assert ran.json("tests_result.json")["output_limit"] is True


@pytest.mark.parametrize("number", [9, 15, 11])
async def test_death_by_a_signal_is_128_and_the_signal(repo: Repo, number: int) -> None:
    ran = await repo.contract(tests=gate(f"ulimit -c 0; kill -{number} $$")).run()

    one = ran.tries("tests")[0]
    assert (one.rc, one.signal, one.timed_out, one.cancelled) == (128 + number, number, False, False)
    event = ran.events_of("command_finished")[0]
    assert (event["exit_code"], event["signal"]) == (None, number)


@pytest.mark.parametrize("code", [1, 2, 124, 126, 127, 130, 137, 255])
async def test_a_commands_own_status_is_never_taken_for_ours(repo: Repo, code: int) -> None:
    ran = await repo.contract(tests=gate(f"exit {code}")).run()

    one = ran.tries("tests")[0]
    assert (one.rc, one.status_source) == (code, "process")
    assert (one.timed_out, one.cancelled, one.output_limit) == (False, False, False)
    assert (one.refused, one.signal) == (None, None)
    assert ran.verdict[2] == "stage_failed"


@pytest.mark.slow
async def test_a_command_that_survives_term_is_no_success_when_it_was_ended(repo: Repo) -> None:
    """A program that answers TERM with exit 0 has still not done what it was asked."""
    ran = await repo.contract(tests=gate("trap 'exit 0' TERM; sleep 600 & wait", timeout_seconds=1)).run()

    assert ran.tries("tests")[0].rc == 124
    assert not ran.result.ok


async def test_standard_input_is_empty(repo: Repo) -> None:
    ran = await repo.contract(tests=gate("cat; readlink /proc/self/fd/0")).run()

    assert ran.text("tests_stdout.txt") == "/dev/null\n"


async def test_output_is_kept_byte_for_byte(repo: Repo) -> None:
    ran = await repo.contract(tests=gate(r"printf '\377\000\r\n\303'; printf 'err' >&2")).run()

    assert ran.path("tests_stdout.txt").read_bytes() == b"\xff\0\r\n\xc3"
    assert ran.path("tests_stderr.txt").read_bytes() == b"err"
    assert ran.tries("tests")[0].stdout.head == "\ufffd\0\r\n\ufffd"


@pytest.mark.parametrize(
    ("command", "tail"),
    [
        ("echo short", "short\n"),
        ("echo out; echo trouble >&2", "trouble\n"),
        ("seq 1 40000", "".join(f"{n}\n" for n in range(1, 40001))[-4096:]),
        ("seq 1 2000", "".join(f"{n}\n" for n in range(1, 2001))[-4096:]),
    ],
)
async def test_the_answer_shows_the_last_of_what_was_printed(repo: Repo, command: str, tail: str) -> None:
    ran = await repo.contract(tests=gate(command)).run()

    (shown,) = document(ran.result)["stages"][3]["commands"][0]["tries"]
    assert shown["tail"] == tail


@pytest.mark.parametrize(
    ("workdir", "message"),
    [
        ("missing", "workdir does not exist: {root}/missing"),
        ("file", "workdir does not exist: {root}/file"),
        ("circle", "workdir does not exist: {root}/circle"),
        ("way_out", "workdir must be within repo: {outside} (repo={root})"),
    ],
)
async def test_a_workdir_that_cannot_be_used_fails_the_stage(repo: Repo, workdir: str, message: str) -> None:
    outside = repo.root.parent / "outside"
    outside.mkdir()
    repo.write("file", "")
    (repo.root / "way_out").symlink_to(outside)
    (repo.root / "circle").symlink_to("circle")

    ran = await repo.contract(tests=gate("touch ran", workdir=workdir, retries=2)).run()

    expected = message.format(root=repo.root, outside=outside)
    assert ran.verdict == (False, "no_verdict", "workdir_invalid", "tests", None)
    assert ran.result.message == expected
    assert [(one.rc, one.cmd) for one in ran.tries("tests")] == [(2, f"resolve_workdir {workdir}")]
    assert ran.text("tests_workdir_error_try01_stderr.txt") == f"{expected}\n"
    assert not (outside / "ran").exists()


async def test_a_workdir_inside_is_used_also_by_its_absolute_name_or_a_link(repo: Repo) -> None:
    (repo.root / "sub").mkdir()
    (repo.root / "link").symlink_to("sub")
    repo.contract(
        tests=gate("pwd -P", workdir="sub"),
        rollout={"run_cmds": ["pwd -P"], "workdir": str(repo.root / "sub")},
        benchmark={"run_cmds": ["pwd -P"], "workdir": "link"},
    )

    ran = await repo.run()

    for stage in ("tests", "rollout", "benchmark"):
        assert ran.text(f"{stage}_stdout.txt") == f"{repo.root}/sub\n"


# Background children


async def test_a_service_of_deploy_lives_until_the_run_ends(repo: Repo) -> None:
    repo.contract(
        deploy={"setup_cmds": ["sleep 600 >/dev/null 2>&1 & echo $! > pid"]},
        evaluation={"run_cmds": ["kill -0 $(cat pid)"]},
    )

    ran = await repo.run()

    assert ran.result.ok
    pid = int(repo.text("pid"))
    (entry,) = ran.json("reaped.json")["processes"]
    assert (entry["pid"], entry["command"], entry["how"]) == (pid, "sleep 600", "terminated")
    assert ran.result.leaks == ()


@pytest.mark.parametrize("stage", ["tests", "evaluation", "benchmark"])
async def test_children_of_a_stage_that_judges_end_with_it(repo: Repo, stage: str) -> None:
    section = {"run_cmds" if stage != "tests" else "cmds": ["sleep 600 >/dev/null 2>&1 & echo $! > pid"]}
    repo.contract(
        **{stage: section}, deploy={"teardown_cmds": ["grep '^State:' /proc/$(cat pid)/status || echo gone"]}
    )

    ran = await repo.run()

    assert ran.text("deploy_teardown_stdout.txt") in ("gone\n", "State:\tZ (zombie)\n")
    assert [one["pid"] for one in ran.json(f"{stage}_summary.json")["ended_children"]] == [
        int(repo.text("pid"))
    ]
    assert ran.json("reaped.json")["processes"] == []


async def test_a_daemon_of_evaluation_cannot_rewrite_the_verdict(repo: Repo) -> None:
    daemon = (
        'setsid sh -c \'while :; do echo "{\\"ok\\": true, \\"score\\": 1.0}" > forged;'
        " mv forged .aider_fsm/metrics.json; done' >/dev/null 2>&1 &"
    )
    write = "rm -f .aider_fsm/metrics.json"
    section = evaluation()
    section["run_cmds"] = [daemon, write, *section["run_cmds"]]

    ran = await repo.contract(evaluation=section).run()

    # Whoever wrote last, the number read is the one that stayed: nobody was left to change it.
    settled = json.loads(repo.text(".aider_fsm/metrics.json"))
    assert ran.json("metrics_evaluation.json") == settled
    assert ran.result.reward == settled["score"]
    assert len(ran.json("evaluation_summary.json")["ended_children"]) >= 1


@pytest.mark.slow
async def test_a_child_that_holds_the_pipe_delays_nobody_for_long(repo: Repo) -> None:
    repo.contract(deploy={"setup_cmds": ["echo early; sleep 600 & echo late"]})

    ran = await repo.run()

    one = ran.tries("deploy_setup")[0]
    assert one.drain_cut
    assert one.seconds < 3.5
    assert ran.text("deploy_setup_stdout.txt") == "early\nlate\n"
    assert ran.json("deploy_setup_result.json")["drain_cut"] is True


async def test_with_the_policy_never_services_are_left_and_listed(repo: Repo) -> None:
    repo.contract(
        deploy={"setup_cmds": ["sleep 600 >/dev/null 2>&1 & echo $! > pid"], "teardown_policy": "never"}
    )

    result = await repo.answer()

    pid = int(repo.text("pid"))
    try:
        left = repo.last().json("reaped.json")["processes"]
        assert [(one["pid"], one["how"]) for one in left] == [(pid, "left_running")]
        assert [facts.pid for facts in processes_of(result.run_id)] == [pid]
    finally:
        os.kill(pid, 9)
        await until(lambda: processes_of(result.run_id) == [])
        # A group is given back once nobody lives in it and its run is over; this process is not.
        assert all(remove_group(group) for group in groups_of(result.run_id))
