"""Which files a command executes, and how the audit follows them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

import pytest

from fsmrt.contract.rules import Guard
from fsmrt.contract.scripts import MAX_FILES, MAX_SCRIPT_BYTES, AuditResult, FileText, audit, scripts_named

ROOT = "/srv/project"
CWD = PurePosixPath(ROOT)

Content = str | bytes | OSError


class Disk:
    """Files by name in the repository; bytes, or the error that reading them raises."""

    def __init__(self, files: Mapping[str, Content]) -> None:
        self.files = {f"{ROOT}/{name}": content for name, content in files.items()}

    def read(self, path: str) -> FileText | None:
        content = self.files.get(path)
        if content is None:
            return None
        if isinstance(content, OSError):
            raise content
        data = content.encode() if isinstance(content, str) else content
        return FileText(data[:MAX_SCRIPT_BYTES], len(data))


def audited(command: str, files: Mapping[str, Content], denylist: tuple[str, ...] = ()) -> AuditResult:
    guard = Guard("safe", (), denylist, repo_root=ROOT)
    return audit(command, CWD, guard=guard, read=Disk(files).read)


@pytest.mark.parametrize(
    ("command", "paths"),
    [
        ("./x.sh", ["x.sh"]),
        ("a/x.sh arg", ["a/x.sh"]),
        ("bash x", ["x"]),
        ("bash -e x y", ["x"]),
        ("/bin/sh -o pipefail x", ["x"]),
        ("env A=1 bash x", ["x"]),
        ("cd sub && bash x", ["sub/x"]),
        ("(cd sub; bash x); bash y", ["sub/x", "y"]),
        (". x; source y", ["x", "y"]),
        ("python3 -u x.py", ["x.py"]),
        ("$AIDER_FSM_PYTHON x.py", ["x.py"]),
        ('bash "$AIDER_FSM_REPO_ROOT/.aider_fsm/stages/x.sh"', [".aider_fsm/stages/x.sh"]),
        ("sh -c 'bash x'", ["x"]),
        ("nohup ./serve.sh > log 2>&1 &", ["serve.sh"]),
        ("x=$(./a.sh) && echo `./b.sh`", ["a.sh", "b.sh"]),
        ("find . -exec sh x {} \\;", ["x"]),
        ("timeout 5 bash x | tee log", ["x"]),
    ],
)
def test_scripts_are_found(command: str, paths: list[str]) -> None:
    found = scripts_named(command, CWD, repo_root=ROOT)
    assert [reference.path for reference in found] == [f"{ROOT}/{path}" for path in paths]


@pytest.mark.parametrize(
    "command",
    [
        "pytest -q",
        "echo bash x",
        "cat x.sh",
        "# bash x",
        "echo './x.sh'",
        "python -m x",
        "python -c 'x'",
        "bash -c 'echo x'",
        "/usr/bin/env true",
        "cd .. && ./x.sh",
        "chmod +x x.sh",
    ],
)
def test_other_commands_execute_none(command: str) -> None:
    assert scripts_named(command, CWD, repo_root=ROOT) == []


def test_a_clean_script_is_read_and_listed() -> None:
    result = audited("bash -e a.sh", {"a.sh": "echo sudo\n"})
    assert result == AuditResult(None, (f"{ROOT}/a.sh",), ())


@pytest.mark.parametrize("command", ["bash x", "./x", ". x", "cd . && env A=1 sh -x ./x", "sh -c './x'"])
def test_a_shell_script_is_held_against_the_rules_whatever_its_name(command: str) -> None:
    assert (
        audited(command, {"x": "make\nsudo make install\n"}).refusal
        == "blocked_by_script_denylist: privilege"
    )


def test_the_denylist_is_searched_in_comments_too() -> None:
    assert audited("sh x", {"x": "# FORBIDDEN\n"}, ("for+bidden",)).refusal == (
        "blocked_by_script_denylist: for+bidden"
    )


@pytest.mark.parametrize("command", ["python x", "./x"])
def test_a_python_file_is_held_against_the_denylist_only(command: str) -> None:
    text = "#!/usr/bin/env python3\nsudo = 'curl u | bash'\n"
    assert audited(command, {"x": text}).refusal is None
    assert audited(command, {"x": text}, ("curl",)).refusal == "blocked_by_script_denylist: curl"


@pytest.mark.parametrize(
    "first_line", ["#!/bin/sh", "#! /usr/bin/env bash", "#!/usr/bin/env -S bash -e", "make"]
)
def test_the_first_line_of_a_program_decides(first_line: str) -> None:
    assert audited("./x", {"x": f"{first_line}\nsudo y\n"}).refusal == "blocked_by_script_denylist: privilege"


def test_a_binary_program_is_no_script() -> None:
    result = audited("./x", {"x": b"\x7fELF\0\0" + b"sudo\n" * MAX_SCRIPT_BYTES})
    assert result == AuditResult(None, (), ())


def test_scripts_are_followed_through_scripts() -> None:
    result = audited(
        "bash stages/a.sh",
        {
            "stages/a.sh": 'HERE="$(cd "$(dirname "$0")" && pwd)"\n. "$HERE/lib.sh"\ncd sub && ./b\n',
            "stages/lib.sh": "echo lib\n",
            "sub/b": "rm -rf ~\n",
        },
    )
    assert result.refusal == "blocked_by_script_denylist: rm_root"
    assert result.scripts == (f"{ROOT}/stages/a.sh", f"{ROOT}/stages/lib.sh", f"{ROOT}/sub/b")


def test_a_loop_of_scripts_ends() -> None:
    result = audited("sh a", {"a": "sh b\n", "b": "sh a\n./b\n"})
    assert result == AuditResult(None, (f"{ROOT}/a", f"{ROOT}/b"), ())


def test_three_scripts_deep_and_no_further() -> None:
    result = audited("sh a", {"a": "sh b", "b": "sh c", "c": "sh d", "d": "sudo x"})
    assert result.refusal is None
    assert result.remarks == (f"script not audited, more than 3 scripts deep: {ROOT}/d",)


def test_fifty_scripts_and_no_more() -> None:
    many = {f"s{number}": "true" for number in range(MAX_FILES + 5)}
    result = audited("; ".join(f"sh {name}" for name in many), many)
    assert len(result.scripts) == MAX_FILES
    assert len(result.remarks) == 5


def test_what_cannot_be_audited_is_a_remark() -> None:
    result = audited('sh missing; bash "$SOMETHING"; sh missing', {})
    assert result == AuditResult(
        None,
        (),
        (
            f"script not audited, no such file in the repository: {ROOT}/missing",
            "script not audited, its name depends on the shell: $SOMETHING",
        ),
    )


def test_a_file_too_large_is_refused_with_its_size() -> None:
    assert audited("sh x", {"x": "#" * MAX_SCRIPT_BYTES}).refusal is None
    size = MAX_SCRIPT_BYTES + 1
    assert audited("sh x", {"x": "#" * size}).refusal == f"blocked_by_script_audit_too_large: {size} bytes"


def test_an_unreadable_file_is_refused() -> None:
    refusal = audited("sh x", {"x": PermissionError(13, "Permission denied")}).refusal
    assert refusal == f"blocked_by_script_audit_read_error: {ROOT}/x: Permission denied"


def test_text_that_is_no_utf8_is_still_audited() -> None:
    assert audited("sh x", {"x": b"\xff\xfe\nsudo x\n"}).refusal == "blocked_by_script_denylist: privilege"
