"""What happens at the end of a run, whatever happened before."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from fsmrt.control import Control
from fsmrt.verdict import Reason
from tests.runs.repo import SCORE, Repo, evaluation, until

pytestmark = pytest.mark.anyio

TORN_DOWN = ["touch torn_down"]


@pytest.mark.parametrize("outcome", ["passed", "failed", "stopped"])
@pytest.mark.parametrize(
    ("policy", "after"),
    [
        ("always", {"passed", "failed", "stopped"}),
        ("on_success", {"passed"}),
        ("on_failure", {"failed", "stopped"}),
        ("never", set[str]()),
    ],
)
async def test_the_policy_decides(repo: Repo, policy: str, after: set[str], outcome: str) -> None:
    command = {"passed": "true", "failed": "false", "stopped": "sleep 600"}[outcome]
    repo.contract(tests={"cmds": [command]}, deploy={"teardown_cmds": TORN_DOWN, "teardown_policy": policy})
    control = Control()

    def stop(event: object) -> None:
        if outcome == "stopped" and getattr(event, "type", "") == "command_started":
            control.stop(Reason.INTERRUPTED, "enough")

    ran = await repo.run(control=control, on_event=stop)

    assert (repo.root / "torn_down").exists() == (outcome in after)
    assert ran.ran("deploy_teardown") == (outcome in after)
    assert ran.code == {"passed": 0, "failed": 1, "stopped": 130}[outcome]


@pytest.mark.parametrize("command", ["exit 5", "sudo true", "sleep 600"])
async def test_its_result_never_changes_the_verdict(repo: Repo, command: str) -> None:
    repo.contract(
        evaluation=evaluation(),
        deploy={"teardown_cmds": [command, *TORN_DOWN], "retries": 3, "timeout_seconds": 1},
    )

    ran = await repo.run()

    assert ran.verdict == (True, "scored", None, None, 0.5)
    assert len(ran.tries("deploy_teardown")) == 1
    assert not ran.stage("deploy_teardown").ok


async def test_it_is_bounded_by_the_limit_of_a_stage(repo: Repo) -> None:
    repo.contract(
        security={"max_total_seconds": 1},
        evaluation=evaluation(),
        deploy={"teardown_cmds": ["sleep 600"]},
    )

    ran = await repo.run()

    assert ran.result.reward == 0.5
    assert ran.tries("deploy_teardown")[0].rc == 124
    assert ran.result.timings["total_ms"] < 5000


async def test_a_workdir_it_cannot_use_is_written_down(repo: Repo) -> None:
    repo.contract(tests={"cmds": ["rmdir sub"]}, deploy={"teardown_cmds": TORN_DOWN, "workdir": "sub"})
    (repo.root / "sub").mkdir()

    ran = await repo.run()

    assert ran.result.ok
    assert ran.tries("deploy_teardown")[0].rc == 2
    assert "workdir does not exist" in ran.text("deploy_teardown_workdir_error_try01_stderr.txt")
    assert "workdir does not exist" in ran.text("deploy_teardown_warning.txt")


async def test_it_shares_the_scratch_folder_of_what_it_takes_down(repo: Repo) -> None:
    repo.contract(
        deploy={
            "setup_cmds": ['sleep 600 >/dev/null 2>&1 & echo $! > "$AIDER_FSM_ARTIFACTS_DIR/pid"'],
            "teardown_cmds": ['kill "$(cat "$AIDER_FSM_ARTIFACTS_DIR/pid")"'],
        }
    )

    ran = await repo.run()

    assert ran.tries("deploy_teardown")[0].ok


async def test_a_run_that_is_hurried_tears_nothing_down(repo: Repo) -> None:
    repo.contract(tests={"cmds": ["sleep 600"]}, deploy={"teardown_cmds": TORN_DOWN})
    control = Control()

    def hurry(event: object) -> None:
        if getattr(event, "type", "") == "command_started":
            control.stop(Reason.INTERRUPTED, "enough", terminated=True)
            control.hurry()

    ran = await repo.run(control=control, on_event=hurry)

    assert ran.code == 143
    assert ran.verdict[:3] == (False, "cancelled", "interrupted")
    assert not (repo.root / "torn_down").exists()


async def test_hurrying_cuts_a_teardown_that_runs(repo: Repo) -> None:
    repo.contract(deploy={"teardown_cmds": ["trap '' TERM; sleep 600"]})
    control = Control()
    began = time.monotonic()

    ran = await repo.run(
        control=control, on_event=lambda event: control.hurry() if event.type == "command_started" else None
    )

    assert time.monotonic() - began < 4
    assert not ran.stage("deploy_teardown").ok
    assert ran.result.ok


async def test_a_stop_asked_for_before_the_run_begins_runs_nothing(repo: Repo) -> None:
    control = Control()
    control.stop(Reason.INTERRUPTED, "before it began")

    ran = await repo.contract(tests={"cmds": ["touch tested"]}).run(control=control)

    assert ran.verdict == (False, "cancelled", "interrupted", None, None)
    assert ran.code == 130
    assert not (repo.root / "tested").exists()
    assert ran.events_of("command_started") == []


# kubectl


def fake_kubectl(repo: Repo, text: str) -> dict[str, str]:
    """A `kubectl` on the caller's PATH that does this."""
    tool = repo.home / "bin" / "kubectl"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\n{text}\n")
    tool.chmod(0o755)
    return {"PATH": f"{tool.parent}:{repo.environ['PATH']}"}


async def test_the_cluster_is_asked_before_teardown_without_a_shell(repo: Repo) -> None:
    environ = fake_kubectl(repo, 'echo "$#: $*"; test "$2" != nodes')
    repo.contract(
        security={"denylist": ["kubectl"]},
        evaluation=evaluation(),
        deploy={
            "teardown_cmds": ["true"],
            "kubectl_dump": {
                "enabled": True, "include_logs": True, "namespace": "a b; touch x", "label_selector": "app=$(id)",
            },
        },
    )  # fmt: skip

    ran = await repo.run(environ=environ)

    assert ran.result.reward == 0.5
    assert ran.text("kubectl/kubectl_get_nodes_try01_stdout.txt") == "4: get nodes -o wide\n"
    assert ran.text("kubectl/kubectl_get_events_try01_stdout.txt").startswith("4: get events -A")
    assert ran.text("kubectl/kubectl_logs_try01_stdout.txt") == (
        "8: logs -n a b; touch x -l app=$(id) --all-containers --timestamps --tail=2000\n"
    )
    assert [report.stage for report in ran.result.stages][-2:] == ["kubectl", "deploy_teardown"]
    assert len(ran.tries("kubectl")) == 6


async def test_without_kubectl_there_is_one_remark(repo: Repo) -> None:
    (repo.home / "bin").mkdir()
    for tool in ("sh", "mkdir", "true"):
        (repo.home / "bin" / tool).symlink_to(f"/bin/{tool}")
    repo.contract(tests={"cmds": ["true"]}, deploy={"kubectl_dump": {"enabled": True}})

    ran = await repo.run(environ={"PATH": str(repo.home / "bin")})

    assert ran.result.ok
    assert len([text for text in ran.result.warnings if "kubectl" in text]) == 1
    assert not ran.ran("kubectl") or len(ran.tries("kubectl")) == 1


# Two runs on one tree


async def test_a_second_run_in_the_same_tree_is_refused(repo: Repo) -> None:
    import anyio

    repo.contract(tests={"cmds": ["touch started; sleep 600"]})
    other = Repo.__new__(Repo)
    other.__dict__ = {**repo.__dict__}
    control = Control()
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: repo.answer(control=control))
        await until((repo.root / "started").exists)
        refused = await repo.answer()
        control.stop(Reason.INTERRUPTED, "done")

    assert (refused.verdict, refused.reason, refused.run_dir) == ("no_verdict", "repo_busy", None)
    assert len(repo.run_dirs()) == 1
    repo.last().assert_sound()


async def test_the_evidence_may_be_kept_elsewhere(repo: Repo, tmp_path: Path) -> None:
    ran = await repo.contract(tests={"cmds": ["true"]}).run(artifacts=str(tmp_path / "elsewhere"))

    assert ran.dir.parent == tmp_path / "elsewhere"
    assert repo.run_dirs() == []


async def test_the_contract_may_name_the_place_of_the_evidence(repo: Repo) -> None:
    ran = await repo.contract(artifacts={"out_dir": "out"}, evaluation=evaluation()).run()

    assert ran.dir.parent == repo.root / "out"


async def test_a_place_that_leads_out_is_refused(repo: Repo) -> None:
    (repo.root / "out").symlink_to(repo.home)

    result = await repo.contract(artifacts={"out_dir": "out"}).answer()

    assert result.reason == "preflight_failed"
    assert list(repo.home.iterdir()) == []


async def test_every_file_of_a_run_has_a_name_the_reference_knows(repo: Repo) -> None:
    repo.bootstrap(steps=["true"])
    repo.actions({"id": "a", "cmd": "true"})
    repo.write(".aider_fsm/metrics.json", SCORE)
    repo.contract(tests={"cmds": ["echo > $AIDER_FSM_ARTIFACTS_DIR/x"]}, evaluation=evaluation())

    ran = await repo.run()

    suffixes = ("cmd.txt", "result.json", "stderr.txt", "stdout.txt")
    tried = [
        f"{prefix}_{suffix}"
        for prefix in (
            "actions/actions_01_a_try01", "actions/actions",
            "bootstrap/bootstrap_cmd01_try01", "bootstrap/bootstrap",
            "tests_cmd01_try01", "tests", "evaluation_cmd01_try01", "evaluation",
        )
        for suffix in suffixes
    ]  # fmt: skip
    summaries = [
        f"{stage}_summary.json"
        for stage in (
            "actions/actions", "bootstrap/bootstrap", "auth", "tests", "deploy_setup", "deploy_health",
            "rollout", "evaluation", "benchmark", "deploy_teardown",
        )
    ]  # fmt: skip
    attempt = [
        *tried, *summaries, "actions/actions.yml", "bootstrap/bootstrap.yml", "bootstrap/bootstrap_env.json",
        "bootstrap/bootstrap_parse_warnings.json", "metrics_evaluation.json", "metrics.json", "reaped.json",
        "tests_scratch.json", "stale/evaluation/.aider_fsm/metrics.json",
    ]  # fmt: skip
    layers = [f"layers/{name}.jsonl" for name in ("filesystem", "policy", "process")]
    assert ran.files == sorted(
        [
            "run.json", "events.jsonl", "verdict.json", "health.json",
            "contract/pipeline.yml", "contract/.aider_fsm/bootstrap.yml", "contract/.aider_fsm/actions.yml",
            "scratch/full_attempt_01/tests/x",
            *layers, *(f"full_attempt_01/{name}" for name in attempt),
        ]
    )  # fmt: skip
    theirs = ("run.json", "scratch/", "full_attempt_01/stale", "full_attempt_01/metrics")
    for name in ran.files:
        if name.endswith(".json") and not name.startswith(theirs):
            text = (ran.dir / name).read_text()
            assert text.endswith("\n")
            json.loads(text)


async def test_inside_version_control_the_evidence_ignores_itself(repo: Repo) -> None:
    (repo.root / ".git").mkdir()

    ran = await repo.contract(tests={"cmds": ["true"]}).run()

    assert (ran.dir / ".gitignore").read_text() == "*\n"
