"""What commands find in their environment, from whom, and what they never find."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.runs.repo import Repo, evaluation

pytestmark = pytest.mark.anyio

PRINT = "env -0 | tr '\\n' ' ' | tr '\\0' '\\n'"


def printed(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


async def test_each_level_replaces_the_one_below(repo: Repo) -> None:
    repo.bootstrap(env={"OPENAI_A": "bootstrap", "B": "bootstrap", "C": "bootstrap", "CI": "bootstrap"})
    repo.contract(
        rollout={"run_cmds": [PRINT], "env": {"B": "stage", "C": "stage", "AIDER_EVAL_MODE": "stage"}}
    )

    ran = await repo.run(env={"C": "operator"}, environ={"OPENAI_A": "caller", "OPENAI_Z": "caller"})

    env = printed(ran.text("rollout_stdout.txt"))
    assert {name: env[name] for name in ("OPENAI_Z", "OPENAI_A", "B", "C", "CI", "AIDER_EVAL_MODE")} == {
        "OPENAI_Z": "caller",
        "OPENAI_A": "bootstrap",
        "B": "stage",
        "C": "operator",
        "CI": "bootstrap",
        "AIDER_EVAL_MODE": "smoke",
    }


async def test_the_operator_beats_session_values_but_not_what_is_forced(repo: Repo) -> None:
    repo.contract(rollout={"run_cmds": [PRINT]})
    wishes = {
        "AIDER_EVAL_MODE": "operator",
        "AIDER_FSM_STAGE": "x",
        "AIDER_FSM_NONCE": "x",
        "FSMRT_RUN": "x",
        "AIDER_FSM_REPO_ROOT": "x",
        "AIDER_FSM_ARTIFACTS_DIR": "x",
        "AIDER_FSM_RUN_ID": "operator",
        "AIDER_LLM_KIND": "x",
    }

    ran = await repo.run(env=wishes, llm="some/model")

    env = printed(ran.text("rollout_stdout.txt"))
    assert env["AIDER_EVAL_MODE"] == "operator"
    assert env["AIDER_FSM_RUN_ID"] == "operator"
    assert env["FSMRT_RUN"] == ran.dir.name
    assert env["AIDER_FSM_STAGE"] == "rollout"
    assert env["AIDER_FSM_REPO_ROOT"] == str(repo.root)
    assert env["AIDER_FSM_ARTIFACTS_DIR"] == str(ran.dir / "scratch/full_attempt_01/rollout")
    assert re.fullmatch("[0-9a-f]{32}", env["AIDER_FSM_NONCE"])
    assert (env["AIDER_LLM_KIND"], env["AIDER_LLM_MODEL"], env["OPENAI_MODEL"]) == (
        "remote", "some/model", "some/model",
    )  # fmt: skip


async def test_commands_get_nothing_else_of_the_caller(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVATE_OF_THE_CALLER", "private")
    before = dict(os.environ)

    ran = await repo.contract(tests={"cmds": [PRINT]}).run(
        environ={"AWS_SECRET_ACCESS_KEY": "x" * 20, "LANG": "C"}
    )

    env = printed(ran.text("tests_stdout.txt"))
    shell = {"PWD", "OLDPWD", "SHLVL", "_"}
    assert set(env) - shell == {
        "PATH", "HOME", "LANG",
        "CI", "GIT_TERMINAL_PROMPT", "PIP_DISABLE_PIP_VERSION_CHECK", "PYTHONUNBUFFERED", "PYTHONPATH",
        "AIDER_FSM_STAGE", "AIDER_FSM_NONCE", "AIDER_FSM_REPO_ROOT", "AIDER_FSM_ARTIFACTS_DIR",
        "AIDER_FSM_RUN_ID", "AIDER_FSM_RUNNER_ROOT", "AIDER_FSM_PYTHON", "FSMRT_RUN", "FSMRT_COMMAND",
    }  # fmt: skip
    assert dict(os.environ) == before


async def test_settings_without_an_environment_take_the_callers(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIDER_FROM_CALLER", "yes")
    repo.contract(tests={"cmds": ["echo $AIDER_FROM_CALLER"]})
    monkeypatch.setenv("FSMRT_STATE_DIR", str(repo.state))

    ran = await repo.run(environ=dict(os.environ))

    assert ran.text("tests_stdout.txt") == "yes\n"


async def test_each_stage_has_a_nonce_and_a_scratch_folder_of_its_own(repo: Repo) -> None:
    show = 'echo $AIDER_FSM_NONCE $AIDER_FSM_ARTIFACTS_DIR; touch "$AIDER_FSM_ARTIFACTS_DIR/$AIDER_FSM_STAGE"'
    repo.contract(
        tests={"cmds": [show, show]},
        deploy={"setup_cmds": [show], "health_cmds": [show], "teardown_cmds": [show]},
        rollout={"run_cmds": [show]},
    )

    ran = await repo.run()

    told = {
        stage: ran.text(f"{stage}_stdout.txt").split()
        for stage in ("tests", "deploy_setup", "deploy_health", "deploy_teardown", "rollout")
    }
    assert len({nonce for nonce, _ in told.values()}) == 5
    assert ran.text("tests_cmd01_try01_stdout.txt") == ran.text("tests_cmd02_try01_stdout.txt")
    scratch = ran.dir / "scratch" / "full_attempt_01"
    assert {stage: Path(folder).name for stage, (_, folder) in told.items()} == {
        "tests": "tests",
        "deploy_setup": "deploy",
        "deploy_health": "deploy",
        "deploy_teardown": "deploy",
        "rollout": "rollout",
    }
    assert sorted(path.name for path in (scratch / "deploy").iterdir()) == [
        "deploy_health", "deploy_setup", "deploy_teardown"
    ]  # fmt: skip
    sealed = ran.json("deploy_health_scratch.json")
    assert [entry["path"] for entry in sealed["files"]] == ["deploy_health", "deploy_setup"]
    assert sealed["complete"] is True


async def test_what_a_deployment_announces_reaches_later_stages(repo: Repo) -> None:
    announce = (
        'printf \'%s\' \'{"inference": {"base_url": "http://127.0.0.1:9", "model": "served"}}\''
        " > .aider_fsm/runtime_env.json"
    )
    repo.write(".aider_fsm/runtime_env.json", "{}")
    repo.contract(deploy={"setup_cmds": [announce]}, rollout={"run_cmds": [PRINT]})
    model = repo.home / "model"
    model.mkdir()

    ran = await repo.run(llm=str(model))

    env = printed(ran.text("rollout_stdout.txt"))
    assert env["AIDER_RUNTIME_ENV_PATH"] == str(repo.root / ".aider_fsm/runtime_env.json")
    assert env["OPENAI_BASE_URL"] == env["OPENAI_API_BASE"] == "http://127.0.0.1:9/v1"
    assert (env["AIDER_LLM_KIND"], env["AIDER_LLM_MODEL"]) == ("local_hf", "served")
    assert env["AIDER_TRAINED_MODEL_DIR"] == str(model)
    assert not any("runtime_env_unchanged" in warning for warning in ran.result.warnings)


async def test_a_deployment_that_leaves_the_old_announcement_is_remarked(repo: Repo) -> None:
    repo.write(".aider_fsm/runtime_env.json", "{}")

    ran = await repo.contract(deploy={"setup_cmds": ["true"]}).run()

    assert any(warning.startswith("runtime_env_unchanged") for warning in ran.result.warnings)


async def test_a_failing_stage_says_which_variable_was_not_passed(repo: Repo) -> None:
    repo.contract(tests={"cmds": ['test -n "$MY_TOKEN"']})

    ran = await repo.run(environ={"MY_TOKEN": "only for the caller"})

    assert (
        "MY_TOKEN is set but not passed to commands; add --env MY_TOKEN (or --secret MY_TOKEN)"
        in ran.result.warnings
    )


async def test_a_variable_a_failing_script_uses_is_named_too(repo: Repo) -> None:
    repo.write("run.sh", 'test -n "$MY_TOKEN"\n')
    repo.contract(tests={"cmds": ["sh run.sh"]})

    ran = await repo.run(environ={"MY_TOKEN": "only for the caller"})

    assert any(warning.startswith("MY_TOKEN is set but not passed") for warning in ran.result.warnings)


# Bootstrap


async def test_bootstrap_prepares_the_environment_of_all_that_follows(repo: Repo) -> None:
    repo.write("bin/tool", "#!/bin/sh\necho tool\n", 0o755)
    repo.bootstrap(
        env={
            "PATH": "bin:$PATH",
            "WHERE": "${AIDER_FSM_REPO_ROOT}/x",
            "TWICE": "$WHERE:$WHERE",
            "PRICE": "5$$",
            "NOTHING": "[$UNSET_NAME]",
        },
        cmds=["tool"],
    )
    repo.contract(tests={"cmds": ["tool", PRINT]})

    ran = await repo.run()

    env = printed(ran.text("tests_stdout.txt"))
    assert env["PATH"].startswith(f"{repo.root}/bin:")
    assert env["TWICE"] == f"{repo.root}/x:{repo.root}/x"
    assert (env["PRICE"], env["NOTHING"]) == ("5$", "[]")
    assert ran.text("bootstrap/bootstrap_cmd01_try01_stdout.txt") == "tool\n"
    assert ran.json("bootstrap/bootstrap_env.json")["WHERE"] == f"{repo.root}/x"
    assert (
        ran.path("bootstrap/bootstrap.yml").read_bytes()
        == (repo.root / ".aider_fsm/bootstrap.yml").read_bytes()
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, sys.executable), ("venv/bin/python", "{root}/venv/bin/python"), ("tool", "{root}/bin/tool")],
)
async def test_the_python_of_a_repository(repo: Repo, given: str | None, expected: str) -> None:
    repo.write("bin/tool", "#!/bin/sh\n", 0o755)
    repo.bootstrap(env={"PATH": "bin:$PATH", **({"AIDER_FSM_PYTHON": given} if given else {})})

    ran = await repo.contract(tests={"cmds": ["echo $AIDER_FSM_PYTHON"]}).run()

    assert ran.text("tests_stdout.txt") == f"{expected.format(root=repo.root)}\n"


@pytest.mark.parametrize(
    "broken",
    [
        {"cmds": ["exit 1"]},
        {"cmds": ["true"], "workdir": "missing"},
        {"cmds": ["sudo true"]},
        {"cmds": ["sleep 600"], "timeout_seconds": 1},
    ],
)
async def test_a_bootstrap_that_fails_ends_the_run_without_teardown(
    repo: Repo, broken: dict[str, Any]
) -> None:
    repo.bootstrap(**broken)
    repo.contract(tests={"cmds": ["touch tested"]}, deploy={"teardown_cmds": ["touch torn_down"]})

    ran = await repo.run()

    assert ran.result.failed_stage == "bootstrap"
    assert not (repo.root / "tested").exists()
    assert not (repo.root / "torn_down").exists()
    assert not any(report.stage == "deploy_teardown" for report in ran.result.stages)


async def test_a_bootstrap_that_cannot_be_read_stops_everything_first(repo: Repo) -> None:
    repo.write(".aider_fsm/bootstrap.yml", "cmds: [1, 2\n")
    repo.contract(tests={"cmds": ["touch tested"]})

    with pytest.raises(ValueError, match="yaml_syntax"):
        await repo.answer()

    assert repo.run_dirs() == []


async def test_a_bootstrap_that_an_action_broke_is_a_failure_of_bootstrap(repo: Repo) -> None:
    repo.actions({"kind": "write_file", "path": ".aider_fsm/bootstrap.yml", "content": "cmds: {"})
    repo.contract(tests={"cmds": ["touch tested"]})

    ran = await repo.run()

    assert ran.result.failed_stage == "bootstrap"
    assert "yaml_syntax" in ran.text("bootstrap/bootstrap_parse_try01_stderr.txt")
    assert ran.tries("bootstrap")[0].rc == 2
    assert ran.tries("bootstrap")[0].cmd == "parse .aider_fsm/bootstrap.yml"


async def test_an_action_may_write_the_bootstrap(repo: Repo) -> None:
    repo.actions({"kind": "write_file", "path": ".aider_fsm/bootstrap.yml", "content": "env: {FROM: action}"})

    ran = await repo.contract(tests={"cmds": ["echo $FROM"]}).run()

    assert ran.text("tests_stdout.txt") == "action\n"


# Secrets


PYTHON = f"{sys.executable} -c"
SECRET = "s3cr3t/value+with=odd chars"


async def test_a_secret_is_in_no_file_of_the_run(repo: Repo) -> None:
    repo.contract(
        tests={
            "cmds": [
                'echo "$MY_VALUE"',
                'printf %s "$MY_VALUE" | base64 -w0',
                'printf %s "$MY_VALUE" | cut -c1-5; printf %s "$MY_VALUE" | cut -c6- >&2',
                f"{PYTHON} \"import os; from urllib.parse import quote; print(quote(os.environ['MY_VALUE'], ''))\"",
                f"{PYTHON} \"import os, json; print(json.dumps(os.environ['MY_VALUE']))\"",
                f"echo '{SECRET}'",
            ]
        },
        evaluation=evaluation(f'{{"ok": true, "score": 1, "note": "{SECRET}"}}'),
    )

    ran = await repo.run(secrets={"MY_VALUE": SECRET})

    assert ran.result.ok
    assert ran.text("tests_cmd01_try01_stdout.txt").startswith("<redacted:MY_VALUE:")
    spellings = [SECRET, "czNjcjN0L3ZhbHVlK3dpdGg9b2RkIGNoYXJz", "s3cr3t%2Fvalue%2Bwith%3Dodd%20chars"]
    for name in ran.files:
        content = (ran.dir / name).read_bytes()
        for spelling in spellings:
            assert spelling.encode() not in content, name
    assert json.loads((ran.dir / "run.json").read_bytes())["secrets"] == ["MY_VALUE"]


async def test_a_passed_variable_with_the_name_of_a_secret_is_one(repo: Repo) -> None:
    repo.contract(tests={"cmds": ["echo $API_TOKEN $OPENAI_API_KEY"]})

    ran = await repo.run(env={"API_TOKEN": "abcdef-token"}, environ={"OPENAI_API_KEY": "from-the-caller"})

    assert re.fullmatch(
        r"<redacted:API_TOKEN:\w{8}> <redacted:OPENAI_API_KEY:\w{8}>\n", ran.text("tests_stdout.txt")
    )


async def test_a_secret_in_scratch_is_found_and_named(repo: Repo) -> None:
    repo.contract(tests={"cmds": ['echo "$MY_VALUE" > "$AIDER_FSM_ARTIFACTS_DIR/note"']})

    ran = await repo.run(secrets={"MY_VALUE": SECRET})

    assert "secret_in_scratch: scratch/full_attempt_01/tests/note" in ran.result.warnings
    assert ran.json("tests_scratch.json")["secret_in_scratch"] == ["note"]
