from __future__ import annotations

from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmrt.contract.bootstrap import read_bootstrap
from fsmrt.contract.model import Bootstrap
from fsmrt.contract.reading import Reading


def read(text: str) -> Reading[Bootstrap]:
    return read_bootstrap(dedent(text).encode())


def codes(text: str) -> list[str]:
    return [found.code for found in read(text).problems]


def test_a_plain_file() -> None:
    reading = read(
        """\
        version: 1
        cmds:
          - python -m venv .venv
          - .venv/bin/pip install -e .
        env:
          PATH: .venv/bin:$PATH
          AIDER_FSM_PYTHON: .venv/bin/python
        workdir: sub
        timeout_seconds: 600
        retries: 2
        """
    )
    assert reading.problems == ()
    assert reading.value == Bootstrap(
        cmds=("python -m venv .venv", ".venv/bin/pip install -e ."),
        env={"PATH": ".venv/bin:$PATH", "AIDER_FSM_PYTHON": ".venv/bin/python"},
        workdir="sub",
        timeout_seconds=600,
        retries=2,
    )
    assert list(reading.value.env) == ["PATH", "AIDER_FSM_PYTHON"]


def test_no_commands_is_valid() -> None:
    assert read("env: {A: b}").raise_for_errors().cmds == ()


@pytest.mark.parametrize(
    ("text", "warnings", "cmds"),
    [
        ("cmds: make", ["bootstrap.cmds_coerced_from_string"], ("make",)),
        ("cmds: {cmd: make}", ["bootstrap.cmds_mapping_coerced_to_single_cmd"], ("make",)),
        ("cmds: {command: make}", ["bootstrap.cmds_mapping_coerced_to_single_cmd"], ("make",)),
        ("cmds: [a, {run: b}]", ["bootstrap.cmds[1]_mapping_coerced_via_run"], ("a", "b")),
        ("cmds: [{cmd: a, run: b}]", ["bootstrap.cmds[0]_mapping_coerced_via_cmd"], ("a",)),
        ("steps: [a]", ["bootstrap.steps_alias_used"], ("a",)),
        ("steps: a", ["bootstrap.steps_alias_used", "bootstrap.cmds_coerced_from_string"], ("a",)),
        ("boot: {cmds: [a]}", ["bootstrap.boot_mapping_unwrapped"], ("a",)),
        ("version: 1\nboot: {cmds: [a]}", ["bootstrap.boot_mapping_unwrapped"], ("a",)),
        ("boot: {cmds: [a]}\ncmds: [b]", ["bootstrap.boot_mapping_ignored_due_to_top_level_fields"], ("b",)),
        ("boot: 3\ncmds: [b]", ["bootstrap.boot_mapping_ignored_due_to_top_level_fields"], ("b",)),
        ("cmds: ~\nboot: {cmds: [a]}", ["bootstrap.boot_mapping_unwrapped"], ("a",)),
    ],
)
def test_forms_that_get_a_warning(text: str, warnings: list[str], cmds: tuple[str, ...]) -> None:
    reading = read(text)
    assert [(found.level, found.code) for found in reading.problems] == [
        ("warning", name) for name in warnings
    ]
    assert reading.raise_for_errors().cmds == cmds


def test_aliases_in_the_singular() -> None:
    reading = read("cwd: sub\ntimeout: 5\nretry: 1\n")
    assert [found.code for found in reading.problems] == [
        "bootstrap.cwd_alias_used",
        "bootstrap.timeout_alias_used",
        "bootstrap.retry_alias_used",
    ]
    assert reading.value == Bootstrap(workdir="sub", timeout_seconds=5, retries=1)


def test_a_field_wins_over_its_alias() -> None:
    reading = read("timeout: 5\ntimeout_seconds: 6\n")
    assert [(found.code, found.line) for found in reading.problems if found.level == "strict"] == [
        ("alias_ignored", 1)
    ]
    assert reading.raise_for_errors().timeout_seconds == 6


@pytest.mark.parametrize(
    ("text", "code", "path"),
    [
        ("", "file_empty", "$"),
        ("[a]", "not_a_mapping", "$"),
        ("version: 2", "unsupported_version", "$.version"),
        ("version: 2\nboot: {cmds: [a]}", "unsupported_version", "$.version"),
        ("boot: [a]", "not_a_mapping", "$.boot"),
        ("boot: {cmds: [3]}", "not_a_string_list", "$.boot.cmds[0]"),
        ("cmds: 3", "not_a_string_list", "$.cmds"),
        ("cmds: ''", "not_a_string_list", "$.cmds"),
        ("cmds: [{}]", "not_a_string_list", "$.cmds[0]"),
        ("cmds: [{run: 3}]", "not_a_string_list", "$.cmds[0].run"),
        ("cmds: {cmd: [a]}", "not_a_string_list", "$.cmds.cmd"),
        ("env: [a]", "not_a_mapping", "$.env"),
        ("timeout_seconds: 0", "out_of_range", "$.timeout_seconds"),
        ("timeout: -1", "out_of_range", "$.timeout"),
        ("retry: -1", "out_of_range", "$.retry"),
        ("cwd: ../x", "path_outside_repo", "$.cwd"),
        ("workdir: /srv/repo", "path_outside_repo", "$.workdir"),
    ],
)
def test_errors(text: str, code: str, path: str) -> None:
    (found,) = read(text).errors
    assert (found.code, found.path, found.file) == (code, path, ".aider_fsm/bootstrap.yml")


def test_unknown_keys() -> None:
    (found,) = read("cmd: a").problems
    assert (found.code, found.level) == ("unknown_key", "strict")
    assert "did you mean cmds?" in found.message


def test_an_absolute_workdir_inside() -> None:
    assert (
        read_bootstrap(b"cwd: /srv/repo/a", repo_root="/srv/repo").raise_for_errors().workdir == "/srv/repo/a"
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "version",
                    "cmds",
                    "steps",
                    "env",
                    "workdir",
                    "cwd",
                    "timeout_seconds",
                    "timeout",
                    "retry",
                    "boot",
                    "y",
                ]
            ),
            st.sampled_from(
                [
                    "~",
                    "1",
                    "a",
                    "''",
                    "[a]",
                    "[{run: b}, {}]",
                    "{cmd: a}",
                    "{A: b}",
                    "{boot: {cmds: [a]}}",
                    "../x",
                    "-1",
                ]
            ),
        ),
        max_size=6,
    )
)
def test_any_combination_is_read_or_its_problems_are(fields: list[tuple[str, str]]) -> None:
    reading = read("\n".join(f"{name}: {text}" for name, text in fields))
    assert (reading.value is None) == bool(reading.errors)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    reading = read_bootstrap(data)
    assert (reading.value is None) == bool(reading.errors)
