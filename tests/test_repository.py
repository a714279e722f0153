from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from fsmrt.repository import PathProblem, Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "repo").mkdir()
    return Repository(tmp_path / "repo")


def test_the_root_is_absolute_and_without_links(tmp_path: Path, repository: Repository) -> None:
    (tmp_path / "alias").symlink_to("repo")

    assert Repository(tmp_path / "alias").root == repository.root
    with pytest.raises(FileNotFoundError):
        Repository(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        Repository(tmp_path / "file")


def make(root: Path, kind: str) -> None:
    """Put something that is not a plain file where one is expected."""
    target = root / "x"
    if kind == "folder":
        target.mkdir()
    elif kind == "fifo":
        os.mkfifo(target)
    elif kind == "device":
        target.symlink_to("/dev/zero")
    elif kind == "loop":
        target.symlink_to("x")
    else:
        (root / "file").write_text("")
        target.symlink_to("file/below")


@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "loop"])
def test_what_is_no_file_is_a_problem_and_never_waited_for(repository: Repository, kind: str) -> None:
    make(repository.root, kind)

    assert isinstance(repository.read_contract_file("x"), PathProblem)
    assert isinstance(repository.read_output("x"), PathProblem)
    assert repository.read_script(str(repository.root / "x")) is None
    assert repository.contract_bytes("x") == b""
    assert repository.digest_of("x") is None


def test_a_file_is_read_whole(repository: Repository) -> None:
    (repository.root / "x").write_bytes(b"\xff" * 100_000)

    assert repository.read_contract_file("x") == repository.read_output("x") == b"\xff" * 100_000


def test_what_is_too_large_is_not_read(repository: Repository) -> None:
    with (repository.root / "x").open("wb") as file:
        file.truncate((16 << 20) + 1)

    assert repository.read_output("x") == PathProblem("failed_to_read: x: larger than 16777216 bytes")
    contract = repository.read_contract_file("x")
    assert isinstance(contract, bytes)
    assert len(contract) == (1 << 20) + 1


def test_a_missing_contract_file_is_no_problem(repository: Repository) -> None:
    assert repository.read_contract_file("x") is None
    assert repository.read_contract_file("x/y") is None


@pytest.mark.parametrize("path", ["../outside", "way/out", "link"])
def test_nothing_outside_is_read_written_or_moved(tmp_path: Path, repository: Repository, path: str) -> None:
    (tmp_path / "outside").write_text("private")
    (tmp_path / "out").write_text("private")
    (repository.root / "way").symlink_to(tmp_path)
    (repository.root / "link").symlink_to(tmp_path / "outside")

    assert isinstance(repository.read_contract_file(path), PathProblem)
    assert repository.read_output(path) == PathProblem(f"metrics_outside_repo: {path}")
    assert repository.read_script(str(repository.root / path)) is None
    moved = repository.move_aside([path], tmp_path / "aside")
    assert [one.kind for one in moved] == (["link"] if path == "link" else [])
    if path != "link":
        assert repository.write_file(path, "mine") == PathProblem(f"path_outside_repo: {path}")
    assert {(tmp_path / name).read_text() for name in ("outside", "out")} == {"private"}


def test_one_lock_at_a_time(repository: Repository) -> None:
    first = repository.try_lock()
    assert first is not None
    assert Repository(repository.root).try_lock() is None
    first.release()
    first.release()
    second = repository.try_lock()
    assert second is not None
    second.release()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path, repository: Repository) -> None:
    (repository.root / ".aider_fsm").mkdir()
    (repository.root / ".aider_fsm" / "run.lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match="symbolic"):
        repository.try_lock()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.needs("git")
def test_the_hooks_of_a_repository_are_not_executed_by_looking_at_it(repository: Repository) -> None:
    ran = repository.root / "ran"
    hook = repository.root / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
    hook.chmod(0o755)
    for arguments in (
        ["init", "-q"],
        ["config", "core.fsmonitor", str(hook)],
        ["config", "core.hooksPath", "."],
    ):
        assert os.spawnvp(os.P_WAIT, "git", ["git", "-C", str(repository.root), *arguments]) == 0

    state = repository.git_state()

    assert (state.commit, state.dirty) == (None, True)
    assert not ran.exists()


def test_without_version_control_nothing_is_said(repository: Repository) -> None:
    state = repository.git_state()

    assert (state.commit, state.dirty) == (None, None)


def test_a_file_that_cannot_be_written_is_a_problem_also_where_nothing_can_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)

    problem = Repository(tmp_path).write_file("a.txt", "mine")

    assert problem == PathProblem("cannot write a.txt: Read-only file system")


def test_a_folder_that_is_not_there_is_named_whole(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(f"'{tmp_path}/owner/repo'")):
        Repository(tmp_path / "owner" / "repo")
