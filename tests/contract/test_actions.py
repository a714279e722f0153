from __future__ import annotations

from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmrt.contract.actions import read_actions
from fsmrt.contract.model import Action, Actions
from fsmrt.contract.reading import Reading


def read(text: str) -> Reading[Actions]:
    return read_actions(dedent(text).encode())


def test_a_plain_file() -> None:
    reading = read(
        """\
        version: 1
        actions:
          - cmd: apt-get install -y jq
            kind: Install_Tool
            retries: 1
            risk_level: low
            rationale: needed by the evaluation
          - {id: serve, kind: start_service, cmd: ./serve, timeout_seconds: 30}
          - {kind: write_file, path: conf/a.ini, content: "  x\\n"}
        """
    )
    assert reading.problems == ()
    assert reading.raise_for_errors().actions == (
        Action(
            id="action-001",
            kind="install_tool",
            cmd="apt-get install -y jq",
            retries=1,
            risk_level="low",
            rationale="needed by the evaluation",
        ),
        Action(id="serve", kind="start_service", cmd="./serve", timeout_seconds=30),
        Action(id="action-003", kind="write_file", path="conf/a.ini", content="  x\n"),
    )


@pytest.mark.parametrize(
    ("text", "code", "path"),
    [
        ("{kind: dance}", "unsupported_action_kind", "$.actions[0].kind"),
        ("{}", "missing_cmd", "$.actions[0]"),
        ("{cmd: ' ', kind: start_service}", "missing_cmd", "$.actions[0]"),
        ("{kind: write_file}", "missing_path", "$.actions[0]"),
        ("{kind: write_file, path: ../x}", "path_outside_repo", "$.actions[0].path"),
        ("{kind: write_file, path: /srv/x}", "path_outside_repo", "$.actions[0].path"),
        ("{kind: write_file, path: ./pipeline.yml}", "path_is_protected", "$.actions[0].path"),
        ("{kind: write_file, path: a/../PLAN.md}", "path_is_protected", "$.actions[0].path"),
        ("{kind: write_file, path: .aider_fsm/artifacts/x}", "path_is_protected", "$.actions[0].path"),
        ("{cmd: a, retires: 1}", "unknown_key", "$.actions[0].retires"),
    ],
)
def test_what_fails_when_its_turn_comes_is_kept_and_told(text: str, code: str, path: str) -> None:
    reading = read(f"actions: [{text}]")
    (found,) = reading.problems
    assert (found.level, found.code, found.path) == ("strict", code, path)
    assert len(reading.raise_for_errors().actions) == 1


def test_the_name_of_an_unknown_kind_is_kept() -> None:
    reading = read("actions: [{kind: dance}]")
    assert reading.raise_for_errors().actions[0].kind == "dance"
    assert "unsupported_action_kind: dance" in reading.problems[0].message


@pytest.mark.parametrize(
    ("text", "code", "path"),
    [
        ("", "file_empty", "$"),
        ("[]", "not_a_mapping", "$"),
        ("version: 2", "unsupported_version", "$.version"),
        ("actions: {cmd: a}", "not_a_list", "$.actions"),
        ("actions: [a]", "not_a_mapping", "$.actions[0]"),
        ("actions: [~]", "not_a_mapping", "$.actions[0]"),
        ("actions: [{cmd: [a]}]", "not_a_string", "$.actions[0].cmd"),
        ("actions: [{cmd: a, retries: -1}]", "out_of_range", "$.actions[0].retries"),
        ("actions: [{cmd: a, id: b}, {cmd: c, id: b}]", "duplicate_id", "$.actions[1].id"),
        ("actions: [{cmd: a, id: action-002}, {cmd: c}]", "duplicate_id", "$.actions[1].id"),
        ("actions: [{cmd: a, id: b}, 3, {cmd: c, id: b}]", "not_a_mapping", "$.actions[1]"),
    ],
)
def test_errors(text: str, code: str, path: str) -> None:
    found = read(text).errors[0]
    assert (found.code, found.path) == (code, path)


def test_an_action_used_twice_by_alias_is_a_duplicate_at_its_own_place() -> None:
    reading = read("x-a: &a {cmd: a, id: b}\nactions:\n  - *a\n  - *a\n")
    assert [(found.code, found.path) for found in reading.problems] == [("duplicate_id", "$.actions[1].id")]


def test_nothing_to_do() -> None:
    assert read("actions: ~").raise_for_errors() == Actions()


def test_an_absolute_path_inside() -> None:
    text = b"actions: [{kind: write_file, path: /srv/repo/a}]"
    assert read_actions(text, repo_root="/srv/repo").problems == ()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["id", "kind", "cmd", "timeout_seconds", "retries", "path", "content", "x-a", "bogus"]
            ),
            st.sampled_from(["~", "1", "a", "''", "[a]", "write_file", "dance", "../x", "-1", '"a\\0"']),
        ),
        max_size=6,
    ).map(lambda fields: "{" + ", ".join(f"{name}: {text}" for name, text in fields) + "}"),
)
def test_any_action_is_read_or_its_problems_are(action: str) -> None:
    reading = read(f"actions: [{action}, {action}, 3]")
    assert reading.value is None
    assert (read(f"actions: [{action}]").value is None) == bool(read(f"actions: [{action}]").errors)
