"""Which stages a run performs, in which order, and what the record says of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runs.repo import Repo, evaluation

pytestmark = pytest.mark.anyio

EVERY_STAGE: dict[str, Any] = {
    "auth": {"cmds": ["true"]},
    "tests": {"cmds": ["true"]},
    "deploy": {"setup_cmds": ["true"], "health_cmds": ["true"], "teardown_cmds": ["true"]},
    "rollout": {"run_cmds": ["true"]},
    "evaluation": evaluation(),
    "benchmark": {"run_cmds": ["true"]},
}
FORWARD = ["auth", "tests", "deploy_setup", "deploy_health", "rollout", "evaluation", "benchmark"]


def of_stage(stage: str) -> list[str]:
    """The events of a stage with one command that passes at once."""
    return [
        f"stage_started {stage}",
        f"command_started {stage}_cmd01_try01",
        f"command_finished {stage}_cmd01_try01",
        f"stage_finished {stage}",
        "checkpoint",
    ]


async def test_a_full_pass_tells_this_story_and_no_other(repo: Repo) -> None:
    ran = await repo.contract(**EVERY_STAGE).run()

    assert ran.verdict == (True, "scored", None, None, 0.5)
    assert ran.code == 0
    assert ran.story == [
        "run_started",
        "contract_frozen",
        *(event for stage in (*FORWARD, "deploy_teardown") for event in of_stage(stage)),
        "checkpoint",
        "run_finished",
    ]


async def test_preparation_comes_first(repo: Repo) -> None:
    repo.contract(tests={"cmds": ["cat order"]})
    repo.bootstrap(cmds=["echo bootstrap >> order"])
    repo.actions({"id": "a", "cmd": "echo actions >> order"})

    ran = await repo.run()

    assert ran.text("tests_stdout.txt") == "actions\nbootstrap\n"
    assert [report.stage for report in ran.result.stages if not report.skipped] == [
        "actions",
        "bootstrap",
        "tests",
    ]


async def test_stages_without_commands_are_recorded_as_skipped(repo: Repo) -> None:
    ran = await repo.contract(tests={"cmds": ["true"]}).run()

    assert [report.stage for report in ran.result.stages if report.skipped] == [
        "actions", "bootstrap", "auth", "deploy_setup", "deploy_health",
        "rollout", "evaluation", "benchmark", "deploy_teardown",
    ]  # fmt: skip
    for stage in (
        "auth",
        "deploy_setup",
        "deploy_health",
        "rollout",
        "evaluation",
        "benchmark",
        "deploy_teardown",
    ):
        assert ran.json(f"{stage}_summary.json")["skipped"] is True
    assert [event.data["stage"] for event in ran.events if event.type == "stage_started"] == ["tests"]


@pytest.mark.parametrize("failing", FORWARD)
async def test_the_first_failure_stops_and_teardown_follows(repo: Repo, failing: str) -> None:
    sections = {name: dict(section) for name, section in EVERY_STAGE.items()}
    section, _, part = failing.partition("_")
    key = f"{part}_cmds" if part else "run_cmds" if "run_cmds" in sections[section] else "cmds"
    sections[section][key] = ["true", "exit 3", "true"]

    ran = await repo.contract(**sections).run()

    before = FORWARD[: FORWARD.index(failing)]
    assert [report.stage for report in ran.result.stages if not report.skipped] == [
        *before, failing, "deploy_teardown"
    ]  # fmt: skip
    assert ran.verdict == (False, "no_verdict", "stage_failed", failing, None)
    assert ran.result.message == "exit code 3: exit 3"
    assert ran.code == 1
    assert [one.rc for one in ran.tries(failing)] == [0, 3]
    assert ran.tries("deploy_teardown")[0].ok


async def test_a_contract_that_checks_nothing_says_so(repo: Repo) -> None:
    ran = await repo.contract().run()

    assert ran.verdict == (True, "no_verdict", "gates_nothing", None, None)
    assert ran.code == 0


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (("tests",), ["tests"]),
        (("evaluation", "tests"), ["tests", "evaluation"]),
        (("deploy",), ["deploy_setup", "deploy_health"]),
    ],
)
async def test_a_selection_runs_in_the_order_of_a_pass(
    repo: Repo, selection: tuple[str, ...], expected: list[str]
) -> None:
    ran = await repo.contract(**EVERY_STAGE).run(stages=selection)

    assert [report.stage for report in ran.result.stages if not report.skipped] == [
        *expected,
        "deploy_teardown",
    ]


async def test_given_test_commands_replace_those_of_the_contract(repo: Repo) -> None:
    repo.contract(tests={"cmds": ["echo contract"], "env": {"FROM": "contract"}})

    ran = await repo.run(test_cmds=("echo operator $FROM",))

    assert ran.text("tests_stdout.txt") == "operator contract\n"


async def test_the_observer_hears_what_is_recorded(repo: Repo) -> None:
    heard: list[str] = []

    ran = await repo.contract(**EVERY_STAGE).run(on_event=lambda event: heard.append(event.type))

    assert heard == [event.type for event in ran.events]
