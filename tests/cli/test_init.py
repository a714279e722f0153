"""`fsmrt init`: writes what `check` accepts, and never over anybody's work."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as budget
from hypothesis import strategies as st

from fsmrt.cli.init import IGNORE, look_at


def python_project(user: Any) -> None:
    (user.repository / "tests").mkdir()
    (user.repository / "tests" / "test_it.py").write_text("import pytest\n")
    (user.repository / "requirements.txt").write_text("pytest\n")


def test_it_writes_what_check_accepts(user: Any) -> None:
    python_project(user)
    done = user.types("init")
    assert done.returncode == 0, done.stderr
    assert "wrote  .aider_fsm/bootstrap.yml" in done.stdout
    assert "fsmrt run --sandbox host" in done.stdout
    assert user.types("check").returncode == 0


def test_a_contract_that_is_there_stays(user: Any) -> None:
    user.contract("mine\n")
    done = user.types("init")
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert (user.repository / "pipeline.yml").read_text() == "mine\n"
    assert user.types("init", "--force").returncode == 0
    assert "mine" not in (user.repository / "pipeline.yml").read_text()


def test_an_old_bootstrap_is_not_left_in_front_of_a_new_contract(user: Any) -> None:
    (user.repository / ".aider_fsm").mkdir()
    (user.repository / ".aider_fsm" / "bootstrap.yml").write_text("cmds: [echo]\n")
    done = user.types("init")
    assert done.returncode == 2
    assert not (user.repository / "pipeline.yml").exists()


def test_print_writes_no_file(user: Any) -> None:
    python_project(user)
    done = user.types("init", "--print")
    assert done.returncode == 0
    assert "requirements.txt" in done.stdout
    assert sorted(path.name for path in user.repository.iterdir()) == ["requirements.txt", "tests"]


@pytest.mark.parametrize("in_git", [True, False])
def test_what_a_run_writes_is_ignored_where_there_is_git(user: Any, in_git: bool) -> None:
    if in_git:
        (user.repository / ".git").mkdir()
    assert user.types("init").returncode == 0
    assert (user.repository / IGNORE).exists() == in_git


def test_a_look_is_bounded_and_follows_nothing_odd(user: Any) -> None:
    deep = user.repository / "a" / "b" / "c" / "d" / "e"
    deep.mkdir(parents=True)
    (deep / "test_far.py").write_text("")
    (user.repository / "node_modules").mkdir()
    (user.repository / "node_modules" / "package.json").write_text("{}")
    (user.repository / "package.json").symlink_to("/dev/zero")
    (user.repository / "big.py").write_bytes(b"x" * 10)
    assert look_at(user.repository) == {"big.py": None, "package.json": None}


@budget(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=60),
    name=st.sampled_from(["package.json", "pyproject.toml", "Makefile", "go.mod"]),
)
def test_no_file_is_too_odd(tmp_path: Any, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert look_at(tmp_path)[name] == content
    (tmp_path / name).unlink()
