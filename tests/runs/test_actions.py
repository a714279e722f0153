"""One-shot actions, and what they may not write."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runs.repo import Repo, processes_of

pytestmark = pytest.mark.anyio

ACTIONS = ".aider_fsm/actions.yml"


async def test_all_kinds_of_actions_are_performed_once_and_moved_into_the_record(repo: Repo) -> None:
    repo.actions(
        {"id": "install", "kind": "install_tool", "cmd": "echo $AIDER_FSM_ACTION_ID $AIDER_FSM_STAGE"},
        {"id": "write", "kind": "write_file", "path": "deep/down/file.txt", "content": "text\u00e9\n"},
        {"cmd": "cat deep/down/file.txt"},
        {"id": "odd id/with*chars", "cmd": "echo odd"},
    )
    given = (repo.root / ACTIONS).read_bytes()

    ran = await repo.contract(tests={"cmds": ["true"]}).run()

    assert ran.result.ok
    assert ran.text("actions/actions_01_install_try01_stdout.txt") == "install actions\n"
    assert ran.text("actions/actions_03_action-003_try01_stdout.txt") == "text\u00e9\n"
    assert ran.text("actions/actions_04_odd_id_with_chars_try01_stdout.txt") == "odd\n"
    assert ran.json("actions/actions_02_write_try01_result.json")["rc"] == 0
    assert not (repo.root / ACTIONS).exists()
    assert ran.path("actions/actions.yml").read_bytes() == given
    assert ran.json("actions/actions_summary.json")["total_results"] == 4


async def test_a_started_service_lives_on_and_other_children_end(repo: Repo) -> None:
    background = "sleep 600 >/dev/null 2>&1 & echo $! > {name}"
    repo.actions(
        {"kind": "start_service", "cmd": background.format(name="service")},
        {"kind": "run_cmd", "cmd": background.format(name="other")},
    )
    repo.contract(
        tests={
            "cmds": [
                "cat /proc/$(cat service)/comm; grep -h '^State:.[^Z]' /proc/$(cat other)/status || true"
            ]
        }
    )

    ran = await repo.run()

    assert ran.text("tests_stdout.txt") == "sleep\n"
    assert [one["pid"] for one in ran.json("reaped.json")["processes"]] == [int(repo.text("service"))]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ({"kind": "run_cmd"}, "missing_cmd"),
        ({"kind": "start_service", "cmd": ""}, "missing_cmd"),
        ({"kind": "write_file", "content": "x"}, "missing_path"),
        ({"kind": "dance"}, "unsupported_action_kind: dance"),
        ({"kind": "write_file", "path": "../out.txt"}, "path_outside_repo: ../out.txt"),
        ({"kind": "write_file", "path": "link/out.txt"}, "path_outside_repo: link/out.txt"),
        ({"kind": "write_file", "path": "pipeline.yml"}, "path_is_protected: pipeline.yml"),
        ({"kind": "write_file", "path": "x/../pipeline.yml"}, "path_is_protected: x/../pipeline.yml"),
        ({"kind": "write_file", "path": "PLAN.md"}, "path_is_protected: PLAN.md"),
        (
            {"kind": "write_file", "path": ".aider_fsm/artifacts/x"},
            "path_is_protected: .aider_fsm/artifacts/x",
        ),
        ({"kind": "write_file", "path": "inner/x"}, "path_is_protected: inner/x"),
    ],
)
async def test_what_cannot_be_done_fails_with_its_reason(
    repo: Repo, action: dict[str, Any], message: str
) -> None:
    (repo.root / "link").symlink_to(repo.home)
    repo.write(".aider_fsm/artifacts/earlier/file", "")
    (repo.root / "inner").symlink_to(".aider_fsm/artifacts/earlier")
    repo.actions(action, {"cmd": "touch after"})
    contract = repo.contract(tests={"cmds": ["true"]}).text("pipeline.yml")

    ran = await repo.run()

    assert ran.verdict == (False, "no_verdict", "stage_failed", "actions", None)
    (one,) = ran.tries("actions")
    assert (one.rc, one.status_source) == (2, "synthetic")
    assert one.stderr.head == f"{message}\n"
    assert repo.text("pipeline.yml") == contract
    assert list(repo.home.iterdir()) == []
    assert not (repo.root / "after").exists()
    assert not (repo.root / ACTIONS).exists()


async def test_an_action_that_fails_ends_the_run_before_anything_is_deployed(repo: Repo) -> None:
    repo.actions({"cmd": "exit 4", "retries": 1})
    repo.contract(tests={"cmds": ["touch tested"]}, deploy={"teardown_cmds": ["touch torn_down"]})

    ran = await repo.run()

    assert [one.rc for one in ran.tries("actions")] == [4, 4]
    assert not (repo.root / "tested").exists()
    assert not (repo.root / "torn_down").exists()
    assert ran.path("actions/actions.yml").exists()


async def test_an_action_obeys_the_rules_and_its_own_limit(repo: Repo) -> None:
    refused = await repo.actions({"cmd": "sudo true"}).contract().run()
    limited = await repo.actions({"cmd": "sleep 600", "timeout_seconds": 1}).contract().run()

    assert refused.result.reason == "command_refused"
    assert limited.result.reason == "stage_timeout"
    assert processes_of(limited.dir.name) == []


async def test_actions_that_cannot_be_read_stay_where_they_are(repo: Repo) -> None:
    repo.write(ACTIONS, "actions: [")
    repo.contract()

    with pytest.raises(ValueError, match="yaml_syntax"):
        await repo.answer()

    assert (repo.root / ACTIONS).exists()


async def test_a_file_is_written_whole_over_what_was_there(repo: Repo) -> None:
    repo.write("file", "old old old")
    repo.write("target", "kept")
    (repo.root / "alias").symlink_to("target")
    repo.actions(
        {"kind": "write_file", "path": "file", "content": "new"},
        {"kind": "write_file", "path": "alias", "content": "mine"},
    )

    await repo.contract().run()

    assert repo.text("file") == "new"
    assert repo.text("alias") == "mine"
    assert not [path.name for path in repo.root.iterdir() if path.name.endswith(".new")]
