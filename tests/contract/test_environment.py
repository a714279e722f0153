"""The environment of commands: what gets in, and what beats what."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmrt.contract.environment import (
    FORCED_NAMES,
    STRICT_DEFAULTS,
    Llm,
    SessionValues,
    after_deploy,
    base_url,
    bootstrap_env,
    configured_base_url,
    deployed_base_url,
    forced,
    inherited,
    missing_variable_hint,
    missing_variables,
    parse_llm,
    session_values,
    stage_env,
    strict_defaults,
)

REMOTE = Llm("remote", "gpt-x")
LOCAL = Llm("local_hf", "qwen", "/models/qwen")


def put_together(**levels: Any) -> dict[str, str]:
    settings: dict[str, Any] = {
        "inherited": {},
        "run_id": "run",
        "repo_root": "/r",
        "runner_root": "/opt/runner",
        "python": "/usr/bin/python3",
    }
    return stage_env(**(settings | levels))


# -- inherited


def test_only_listed_names_are_inherited() -> None:
    kept = dict.fromkeys(
        ["PATH", "HOME", "LC_ALL", "XDG_CACHE_HOME", "OPENAI_API_KEY", "AIDER_X", "HTTPS_PROXY"], "x"
    )
    dropped = dict.fromkeys(
        ["AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "OPENCODE_SERVER_PASSWORD", "PYTHONPATH", "PWD"], "x"
    )
    assert inherited(kept | dropped) == kept


def test_strict_defaults_are_for_strict_only() -> None:
    assert strict_defaults("guided") == {}
    assert strict_defaults("strict") == STRICT_DEFAULTS
    assert put_together().items() >= STRICT_DEFAULTS.items()
    assert put_together(stage_env={"CI": ""})["CI"] == ""
    assert not STRICT_DEFAULTS.keys() & put_together(unattended="guided").keys()


# -- precedence


LEVELS = ("inherited", "bootstrap", "stage_env", "session", "operator", "session_forced")


@given(st.sets(st.sampled_from(LEVELS)))
def test_the_highest_level_that_has_a_name_wins(given_by: set[str]) -> None:
    def level(name: str) -> dict[str, str]:
        return {"X": name} if name in given_by else {}

    env = put_together(
        inherited=level("inherited"),
        bootstrap=level("bootstrap"),
        stage_env=level("stage_env"),
        session=SessionValues(values=level("session"), forced=level("session_forced")),
        operator=level("operator"),
    )
    assert env.get("X") == next((name for name in reversed(LEVELS) if name in given_by), None)


def test_what_every_command_may_expect_is_set_only_where_unset() -> None:
    env = put_together()
    assert env["AIDER_FSM_RUN_ID"] == "run"
    assert env["AIDER_FSM_PYTHON"] == "/usr/bin/python3"
    assert env["AIDER_FSM_RUNNER_ROOT"] == "/opt/runner"
    own = {"AIDER_FSM_RUN_ID": "a", "AIDER_FSM_PYTHON": "b", "AIDER_FSM_RUNNER_ROOT": "c"}
    assert put_together(bootstrap=own).items() >= own.items()
    assert "AIDER_FSM_PYTHON" not in put_together(python=None)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "/opt/runner"),
        ("/a:/b", "/a:/b:/opt/runner"),
        ("/opt/runner:/a", "/opt/runner:/a"),
        ("/a:", "/a::/opt/runner"),
    ],
)
def test_the_runner_root_is_appended_to_the_python_path(before: str, after: str) -> None:
    assert put_together(stage_env={"PYTHONPATH": before})["PYTHONPATH"] == after


def test_forced_values() -> None:
    values = forced("tests", "/r/scratch", "n" * 32, "run", "/r")
    assert values.keys() == FORCED_NAMES
    assert values["AIDER_FSM_STAGE"] == "tests"


def test_nothing_reaches_the_process_environment() -> None:
    before = dict(os.environ)
    put_together(inherited=inherited(os.environ), operator={"X_NEVER_SET": "1"})
    bootstrap_env({"X_NEVER_SET": "1"}, os.environ, "/r", lambda name, path: None)
    assert dict(os.environ) == before


# -- the model


FOLDERS = {
    "/models/qwen": "/models/qwen",
    "./qwen": "/models/qwen",
    "~/qwen": "/home/me/qwen",
    "here": "/r/here",
}


def folder_at(path: str) -> str | None:
    if path.endswith("file"):
        raise NotADirectoryError(path)
    return FOLDERS.get(path)


@pytest.mark.parametrize(
    ("text", "llm"),
    [
        ("/models/qwen", LOCAL),
        ("./qwen", LOCAL),
        (PurePosixPath("/models/qwen"), LOCAL),
        ("~/qwen", Llm("local_hf", "qwen", "/home/me/qwen")),
        ("here", Llm("local_hf", "here", "/r/here")),
        (" gpt-x ", REMOTE),
        ("org/model", Llm("remote", "org/model")),
        ("file", Llm("remote", "file")),
    ],
)
def test_a_folder_is_a_local_model_and_other_text_a_remote_one(text: str | PurePosixPath, llm: Llm) -> None:
    assert parse_llm(text, folder_at) == llm


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", ValueError, "empty_llm"),
        ("  ", ValueError, "empty_llm"),
        ("/nowhere", FileNotFoundError, "llm_path_not_found: /nowhere"),
        ("../x", FileNotFoundError, "llm_path_not_found: ../x"),
        (PurePosixPath("gone"), FileNotFoundError, "llm_path_not_found: gone"),
        ("./file", NotADirectoryError, "llm_not_directory: ./file"),
    ],
)
def test_a_path_must_be_a_folder(text: str | PurePosixPath, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        parse_llm(text, folder_at)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("http://h", "http://h/v1"),
        ("http://h/v1//", "http://h/v1"),
        (" http://h/x/ ", "http://h/x/v1"),
        ("", ""),
        ("/", ""),
    ],
)
def test_a_base_url_ends_in_v1(text: str, base: str) -> None:
    assert base_url(text) == base


def test_the_operators_endpoint_beats_the_callers() -> None:
    environ = {"OPENAI_BASE_URL": "http://caller"}
    assert configured_base_url({}, environ) == "http://caller/v1"
    assert configured_base_url({"OPENAI_API_BASE": "http://op"}, environ) == "http://op/v1"
    assert (
        configured_base_url({"OPENAI_API_BASE": "http://b", "OPENAI_BASE_URL": "http://a"}, {})
        == "http://a/v1"
    )
    assert configured_base_url({"OPENAI_BASE_URL": ""}, {"OPENAI_API_BASE": "x"}) == "x/v1"
    assert configured_base_url({}, {}) is None


@pytest.mark.parametrize(
    ("document", "base"),
    [
        ({"inference": {"openai_base_url": "http://a", "base_url": "http://b"}}, "http://a/v1"),
        ({"inference": {"base_url": "http://b/v1"}, "service": {"base_url": "http://c"}}, "http://b/v1"),
        ({"service": {"base_url": "http://c/"}}, "http://c/v1"),
        ({"inference": [], "service": {"base_url": 7}}, None),
        ({}, None),
    ],
)
def test_a_deployment_announces_its_endpoint(document: Mapping[str, Any], base: str | None) -> None:
    assert deployed_base_url(document) == base


# -- session values


def session_env(session: SessionValues, **levels: dict[str, str]) -> dict[str, str]:
    env = put_together(session=session, **levels)
    return {
        name: env[name]
        for name in env
        if name.startswith(("AIDER_EVAL", "AIDER_LLM", "AIDER_TR", "AIDER_RU", "OPENAI"))
    }


def test_without_a_model_only_the_mode_is_said() -> None:
    session = session_values(mode="full", environ={"OPENAI_BASE_URL": "http://h"})
    assert session_env(session) == {"AIDER_EVAL_MODE": "full"}
    deployed = after_deploy(
        session, {"inference": {"model": "m", "base_url": "u"}}, llm=None, runtime_env_path="/r/e"
    )
    assert session_env(deployed) == {"AIDER_EVAL_MODE": "full", "AIDER_RUNTIME_ENV_PATH": "/r/e"}


def test_a_remote_model() -> None:
    operator = {
        "OPENAI_BASE_URL": "http://h/",
        "AIDER_LLM_MODEL": "other",
        "OPENAI_MODEL": "mine",
        "AIDER_EVAL_MODE": "x",
    }
    session = session_values(mode="smoke", llm=REMOTE, overrides=operator)
    assert session_env(session, inherited={"AIDER_TRAINED_MODEL_DIR": "/old"}, operator=operator) == {
        "AIDER_EVAL_MODE": "x",
        "AIDER_LLM_KIND": "remote",
        "AIDER_LLM_MODEL": "gpt-x",
        "OPENAI_MODEL": "mine",
        "OPENAI_BASE_URL": "http://h/v1",
        "OPENAI_API_BASE": "http://h/v1",
    }


def test_a_local_model() -> None:
    session = session_values(mode="smoke", llm=LOCAL)
    assert session_env(session, inherited={"OPENAI_API_KEY": "real", "AIDER_LLM_MODEL": "old"}) == {
        "AIDER_EVAL_MODE": "smoke",
        "AIDER_LLM_KIND": "local_hf",
        "AIDER_TRAINED_MODEL_DIR": "/models/qwen",
        "OPENAI_MODEL": "qwen",
        "OPENAI_API_KEY": "local",
    }
    assert session_env(session, operator={"OPENAI_API_KEY": "mine"})["OPENAI_API_KEY"] == "mine"


RUNTIME_ENV = {"inference": {"openai_base_url": "http://deployed", "model": "served"}}


def test_a_deployment_fills_gaps_of_a_local_model() -> None:
    session = session_values(mode="smoke", llm=LOCAL, environ={"OPENAI_BASE_URL": "http://caller"})
    env = session_env(after_deploy(session, RUNTIME_ENV, llm=LOCAL, runtime_env_path="/r/e"))
    assert env["AIDER_LLM_MODEL"] == "served"
    assert env["OPENAI_MODEL"] == "qwen"
    assert env["OPENAI_BASE_URL"] == env["OPENAI_API_BASE"] == "http://deployed/v1"


def test_a_deployment_does_not_replace_what_a_remote_model_has() -> None:
    chosen = session_values(mode="smoke", llm=REMOTE, environ={"OPENAI_BASE_URL": "http://caller"})
    env = session_env(after_deploy(chosen, RUNTIME_ENV, llm=REMOTE, runtime_env_path="/r/e"))
    assert (env["AIDER_LLM_MODEL"], env["OPENAI_BASE_URL"]) == ("gpt-x", "http://caller/v1")
    unset = session_values(mode="smoke", llm=REMOTE)
    env = session_env(after_deploy(unset, RUNTIME_ENV, llm=REMOTE, runtime_env_path="/r/e"))
    assert env["OPENAI_API_BASE"] == "http://deployed/v1"
    assert (
        after_deploy(unset, None, llm=REMOTE, runtime_env_path="/r/e").forced["AIDER_RUNTIME_ENV_PATH"]
        == "/r/e"
    )


# -- bootstrap


def bootstrapped(entries: dict[str, str], **base: str) -> dict[str, str]:
    return bootstrap_env(entries, base, "/r", lambda name, path: None)[0]


def test_entries_are_expanded_in_order() -> None:
    entries = {"A": "${HOME}/a", "B": "$A/b:$AIDER_FSM_REPO_ROOT", "C": "[$NOPE]$$HOME$", "D": "${X:-y} $1"}
    assert bootstrapped(entries, HOME="/h") == {
        "A": "/h/a",
        "B": "/h/a/b:/r",
        "C": "[]$HOME$",
        "D": "${X:-y} $1",
    }


def test_relative_search_path_segments_become_absolute() -> None:
    assert bootstrapped({"PATH": ".venv/bin::./b:$$X/c:$PATH"}, PATH="/usr/bin")["PATH"] == (
        "/r/.venv/bin::/r/b:$X/c:/usr/bin"
    )


@pytest.mark.parametrize(
    ("value", "python"),
    [
        (".venv/bin/python", "/r/.venv/bin/python"),
        ("./p", "/r/p"),
        ("/usr/bin/p", "/usr/bin/p"),
        ("python3", "/r/bin/python3"),
    ],
)
def test_the_interpreter_becomes_a_path(value: str, python: str) -> None:
    env, warnings = bootstrap_env(
        {"AIDER_FSM_PYTHON": value, "PATH": "bin"}, {}, "/r", lambda name, path: f"{path}/{name}"
    )
    assert env["AIDER_FSM_PYTHON"] == python
    assert warnings == ()


def test_an_interpreter_that_is_not_there_yet_is_a_warning() -> None:
    looked_on: list[str] = []
    env, warnings = bootstrap_env(
        {"AIDER_FSM_PYTHON": "python9"}, {"PATH": "/usr/bin"}, "/r", lambda name, path: looked_on.append(path)
    )
    assert env == {"AIDER_FSM_PYTHON": "python9"}
    assert warnings == ("AIDER_FSM_PYTHON: python9 is not on PATH yet",)
    assert looked_on == ["/usr/bin"]


@given(st.dictionaries(st.text(), st.text()), st.dictionaries(st.text(), st.text()))
def test_any_entries_are_expanded(entries: dict[str, str], base: dict[str, str]) -> None:
    assert bootstrap_env(entries, base, "/r", lambda name, path: None)[0].keys() == entries.keys()


# -- missing variables


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("echo $A ${B:-x} $A", ["A", "B"]),
        ("echo $PASSED ${UNSET}", []),
        ("A=1; echo $A; export B=2; echo $B", []),
        ("for A in x; do echo $A; done; while read -r B; do echo $B; done", []),
        ("# $A\necho ${#B}", ["B"]),
        ("echo $PWD $AIDER_FSM_STAGE $1 $$ $?", []),
        ('curl -H "Authorization: $A"', ["A"]),
    ],
)
def test_variables_that_are_set_but_not_passed(text: str, missing: list[str]) -> None:
    environ = dict.fromkeys(["A", "B", "PASSED", "PWD", "AIDER_FSM_STAGE"], "x")
    assert missing_variables(text, environ, {"PASSED"}) == missing


def test_the_hint_names_the_flag() -> None:
    assert missing_variable_hint("X") == ("X is set but not passed to commands; add --env X (or --secret X)")
