"""The examples do what their pages say, and a proposed contract runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
QUICKSTART = ROOT / "examples" / "quickstart"


def fsmrt(*arguments: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fsmrt.cli", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def git(repository: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    argv = ["git", "-C", os.fspath(repository), *identity, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def quickstart(tmp_path: Path) -> Path:
    """The example as a repository of its own, everything committed."""
    names = subprocess.run(
        ["git", "-C", QUICKSTART, "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    repository = tmp_path / "quickstart"
    for name in names or _all_files(QUICKSTART):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(QUICKSTART / name, repository / name)
    git(repository, "init", "-q")
    git(repository, "add", "--all")
    git(repository, "commit", "-q", "-m", "the example")
    return repository


def _all_files(folder: Path) -> list[str]:
    """For a source tree without git, such as an unpacked release."""
    return [os.fspath(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


def result_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    return result


def test_the_quick_start_has_no_problem() -> None:
    done = fsmrt("check", QUICKSTART)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("mode", "reward"), [("smoke", 1.0), ("full", 0.8)])
def test_the_quick_start_gets_the_score_its_page_says(quickstart: Path, mode: str, reward: float) -> None:
    done = fsmrt("run", quickstart, "--sandbox", "host", "--mode", mode, "--json")
    assert done.returncode == 0, done.stderr
    result = result_of(done)
    assert (result["ok"], result["verdict"], result["reward"]) == (True, "scored", reward)
    assert result["leaks"] == []


def test_the_quick_start_leaves_nothing_but_evidence(quickstart: Path) -> None:
    assert fsmrt("run", quickstart, "--sandbox", "host").returncode == 0
    assert git(quickstart, "status", "--porcelain") == ""
    assert not (quickstart / ".aider_fsm" / "runtime_env.json").exists()
    assert list(quickstart.rglob("service.pid")) == []
    assert processes_in(quickstart) == []


def processes_in(folder: Path) -> list[int]:
    """Processes whose working directory is in the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            where = Path(os.readlink(process / "cwd"))
        except OSError:  # gone by now, or not ours to look at
            continue
        if where.is_relative_to(folder):
            found.append(int(process.name))
    return found


def test_what_the_readme_shows_in_python_runs(quickstart: Path, tmp_path: Path) -> None:
    shown = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown is not None
    (tmp_path / "examples").mkdir()
    quickstart.rename(tmp_path / "examples" / "quickstart")
    done = subprocess.run(
        [sys.executable, "-c", shown[1]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == ["True", "1.0", "None"], done.stderr


def test_a_proposed_contract_is_accepted_and_runs(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    test = "import unittest\n\nclass T(unittest.TestCase):\n    def test_it(self):\n        self.assertTrue(True)\n"
    (tmp_path / "tests" / "test_it.py").write_text(test)
    assert_a_first_run_passes(tmp_path)


def test_a_proposal_for_nothing_is_accepted_and_runs(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing to run\n")
    assert_a_first_run_passes(tmp_path)


def assert_a_first_run_passes(repository: Path) -> None:
    """What a newcomer types, one after the other."""
    where = os.fspath(repository)
    for command in (["init", where], ["check", where], ["run", where, "--sandbox", "host"]):
        done = fsmrt(*command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
