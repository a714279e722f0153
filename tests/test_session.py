"""What is refused before anything exists, and several runs at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from fsmrt.errors import ContractError, SpecError
from fsmrt.request import prepare
from fsmrt.result import code_of
from fsmrt.sandbox import containment
from fsmrt.session import run
from tests.runs.repo import Ran, Repo, evaluation

pytestmark = pytest.mark.anyio


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path)


def untouched(repo: Repo) -> bool:
    return sorted(os.listdir(repo.root)) == ["pipeline.yml"] and not repo.state.exists()


@pytest.mark.parametrize(
    ("mode", "wishes", "words"),
    [
        ("safe", {"sandbox": "auto"}, "--sandbox host"),
        ("safe", {"sandbox": "docker"}, "no docker sandbox yet"),
        ("system", {"sandbox": "bwrap"}, "no bwrap sandbox yet"),
        ("system", {"observe": {"kernel": "require"}}, "kernel layer is required"),
        ("system", {"observe": {"network": "require"}}, "network layer is required"),
    ],
)
async def test_what_cannot_be_had_is_refused_and_nothing_is_touched(
    repo: Repo, mode: str, wishes: dict[str, Any], words: str
) -> None:
    result = await repo.contract(security={"mode": mode}, tests={"cmds": ["touch ran"]}).answer(**wishes)

    assert (result.ok, result.verdict, result.reason, code_of(result)) == (
        False, "no_verdict", "preflight_failed", 4,
    )  # fmt: skip
    assert words in str(result.message)
    assert (result.run_dir, result.artifacts_dir, result.sandbox) == (None, None, None)
    assert untouched(repo)


async def test_a_contract_with_problems_raises_all_of_them(repo: Repo) -> None:
    repo.contract(tests={"cmds": [True]}, rollout={"retries": -1})

    with pytest.raises(ContractError) as caught:
        await repo.answer()

    assert [problem.code for problem in caught.value.problems if problem.level == "error"] == [
        "not_a_string_list", "out_of_range",
    ]  # fmt: skip
    assert untouched(repo)


@pytest.mark.parametrize(
    ("wishes", "code"),
    [
        ({"stages": ("tests", "nothing")}, "unknown_stage"),
        ({"env": {"A=B": "x"}}, "env_name_invalid"),
        ({"timeout": -1.0}, "bad_limit"),
        ({"output_bytes": 0}, "bad_limit"),
        ({"observe": {"weather": "try"}}, "unknown_layer"),
    ],
)
async def test_impossible_wishes_are_named(repo: Repo, wishes: dict[str, Any], code: str) -> None:
    repo.contract(tests={"cmds": ["true"]})

    with pytest.raises(SpecError) as caught:
        prepare(repo.root, repo.settings(**wishes))

    assert [problem[0] for problem in caught.value.problems] == [code]
    assert untouched(repo)


async def test_a_target_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await run(tmp_path / "missing")


@pytest.mark.parametrize(("llm", "error"), [("./missing", FileNotFoundError), ("  ", ValueError)])
async def test_a_model_that_is_not_there(repo: Repo, llm: str, error: type[Exception]) -> None:
    repo.contract(tests={"cmds": ["true"]})

    with pytest.raises(error):
        await repo.answer(llm=llm)


async def test_a_contract_by_another_name(repo: Repo) -> None:
    repo.contract(tests={"cmds": ["false"]})
    repo.write("other.yml", "tests: {cmd: echo other}")

    ran = await repo.run(pipeline="other.yml")

    assert ran.text("tests_stdout.txt") == "other\n"
    assert (ran.dir / "contract" / "other.yml").exists()


async def test_many_runs_at_once_in_one_loop(tmp_path: Path) -> None:
    rans: dict[int, Ran] = {}

    async def work(number: int) -> None:
        place = tmp_path / str(number)
        place.mkdir()
        repo = Repo(place)
        repo.state = tmp_path / "state"
        repo.environ["FSMRT_STATE_DIR"] = str(repo.state)
        repo.bootstrap(env={"NUMBER": str(number)})
        repo.contract(
            deploy={"setup_cmds": ["sleep 600 >/dev/null 2>&1 &"]},
            evaluation=evaluation(f'{{"score": {number}}}'),
            tests={"cmds": ["echo $NUMBER"] * 3},
        )
        result = await repo.answer()
        assert result.run_dir is not None
        rans[number] = Ran(repo, Path(result.run_dir), result)

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(work, number)

    assert {number: ran.result.reward for number, ran in rans.items()} == {n: float(n) for n in range(8)}
    for number, ran in rans.items():
        assert ran.text("tests_stdout.txt") == f"{number}\n"
        assert len(ran.json("reaped.json")["processes"]) == 1
        ran.assert_sound()


# Where no control group can be had


@pytest.fixture
def without_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        containment, "strongest", lambda run_id: containment.WalkContainment(run_id, "this test wants none")
    )
    monkeypatch.setattr("fsmrt.sandbox.host.strongest", containment.strongest)


@pytest.mark.usefixtures("without_groups")
async def test_without_groups_services_live_and_end_all_the_same(repo: Repo) -> None:
    repo.contract(
        tests={"cmds": ["setsid sleep 600 >/dev/null 2>&1 & echo $! > child"]},
        deploy={
            "setup_cmds": ["sleep 600 >/dev/null 2>&1 & (setsid sleep 600 &) >/dev/null 2>&1; echo $! > pid"]
        },
        rollout={"run_cmds": ["kill -0 $(cat pid)", "grep '^State:' /proc/$(cat child)/status || echo gone"]},
        evaluation=evaluation(),
    )

    ran = await repo.run()

    assert ran.verdict == (True, "scored", None, None, 0.5)
    assert ran.result.sandbox is not None
    assert ran.result.sandbox.containment in ("marker_walk", "subreaper_walk")
    assert not ran.result.sandbox.exact
    assert ran.text("rollout_cmd02_try01_stdout.txt") in ("gone\n", "State:\tZ (zombie)\n")
    assert len(ran.json("reaped.json")["processes"]) == 2


@pytest.mark.usefixtures("without_groups")
@pytest.mark.parametrize("number", [4, 9, 14, 19])
async def test_without_groups_a_caller_may_leave_too(repo: Repo, number: int) -> None:
    repo.contract(
        tests={"cmds": ["setsid sleep 600 >/dev/null 2>&1 & sleep 0.05", "sleep 0.05"]},
        deploy={"setup_cmds": ["sleep 600 >/dev/null 2>&1 & sleep 0.05"], "teardown_cmds": ["true"]},
        rollout={"run_cmds": ["sleep 0.05", "sleep 0.05"]},
    )
    seen = 0
    with anyio.CancelScope() as scope:

        def leave(_: object) -> None:
            nonlocal seen
            seen += 1
            if seen == number:
                scope.cancel()

        await repo.answer(on_event=leave)

    repo.last().assert_sound()
