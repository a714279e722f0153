"""When something of ours breaks: the run ends, says whose fault it was, and undoes everything all the same."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from fsmrt.actors.deploy import DeployTeardownActor
from fsmrt.actors.recorder import Recorder
from fsmrt.actors.rollout import RolloutActor
from fsmrt.actors.stage import StageActor
from fsmrt.errors import EvidenceWriteFailed, SandboxLost
from fsmrt.evidence.events import Event, verify_chain
from fsmrt.evidence.files import AppendFile
from fsmrt.evidence.folder import RunFolder
from fsmrt.lease import read_leases
from fsmrt.result import code_of
from fsmrt.sandbox.host import HostCommand, HostSandbox
from tests.runs.repo import Repo, evaluation, groups_of, processes_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def deployed(repo: Repo) -> Repo:
    """A repository with a service, and a trace of its teardown."""
    return repo.contract(
        deploy={
            "setup_cmds": ["sleep 600 >/dev/null 2>&1 &"],
            "teardown_cmds": ["touch torn_down"],
        },
        rollout={"run_cmds": ["true"]},
        evaluation=evaluation(),
    )


async def crash(*_: object) -> None:
    raise ZeroDivisionError("a defect of ours")


@pytest.mark.parametrize("method", ["prepare", "check", "conclude", "handle"])
async def test_a_defect_in_an_actor_ends_the_run_and_teardown_follows(
    deployed: Repo, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(RolloutActor, method, crash)

    ran = await deployed.run()

    assert ran.result.reason == "runner_error"
    assert (ran.result.ok, ran.result.verdict, ran.result.reward, ran.code) == (False, "no_verdict", None, 70)
    assert ran.result.message == "ZeroDivisionError: a defect of ours"
    assert "in crash" in (ran.dir / "runner_error.txt").read_text()
    assert (deployed.root / "torn_down").exists()
    assert not ran.ran("evaluation")


async def test_a_defect_in_teardown_is_told_and_the_service_still_ended(
    deployed: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeployTeardownActor, "prepare", crash)

    ran = await deployed.run()

    assert (ran.result.reason, ran.code) == ("runner_error", 70)
    assert ran.result.reward is None
    assert len(ran.json("reaped.json")["processes"]) == 1


async def test_a_defect_before_the_first_stage_is_a_result_and_leaves_nothing(
    deployed: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HostSandbox, "start", crash)

    result = await deployed.answer()

    assert (result.ok, result.verdict, result.reason, code_of(result)) == (
        False,
        "no_verdict",
        "runner_error",
        70,
    )
    assert_undone(deployed)


async def test_a_defect_in_the_recorder_is_a_result_and_leaves_nothing(
    deployed: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash_at_once(*_: object) -> None:
        raise ZeroDivisionError("a defect of the recorder")

    monkeypatch.setattr(Recorder, "_finished", crash_at_once)

    with anyio.fail_after(30):
        result = await deployed.answer()

    assert (result.reason, code_of(result)) == ("runner_error", 70)
    assert_undone(deployed)


async def test_an_observer_that_fails_is_let_go_and_changes_nothing(repo: Repo) -> None:
    seen: list[str] = []

    def observe(event: Event) -> None:
        seen.append(event.type)
        if event.type == "command_started":
            raise ZeroDivisionError("a defect of the observer")

    ran = await repo.contract(evaluation=evaluation()).run(on_event=observe)

    assert ran.verdict == (True, "scored", None, None, 0.5)
    assert "on_event_failed: ZeroDivisionError: a defect of the observer" in " ".join(ran.result.warnings)
    assert seen.count("command_started") == 1
    assert seen[-1] == "command_started"


async def test_a_sandbox_that_does_not_start(deployed: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(_: object) -> None:
        raise SandboxLost("there is no place")

    monkeypatch.setattr(HostSandbox, "start", lost)

    ran = await deployed.run()

    assert ran.verdict == (False, "no_verdict", "sandbox_start_failed", None, None)
    assert ran.result.message == "there is no place"
    assert ran.code == 3


async def test_a_sandbox_that_is_lost_on_the_way(deployed: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    real = HostCommand.wait

    async def wait(self: HostCommand) -> Any:
        outcome = await real(self)
        if self._process.command.stage == "rollout":
            raise SandboxLost("the place is gone")
        return outcome

    monkeypatch.setattr(HostCommand, "wait", wait)

    ran = await deployed.run()

    assert ran.verdict == (False, "no_verdict", "sandbox_lost", "rollout", None)
    assert ran.code == 3
    assert (deployed.root / "torn_down").exists()


async def test_an_actor_that_loses_its_report_does_not_hang_the_run(
    deployed: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: StageActor, *_: object) -> None:
        self.tools.reports.close()
        raise ZeroDivisionError("and the channel is closed too")

    monkeypatch.setattr(RolloutActor, "handle", broken)

    with anyio.fail_after(30):
        result = await deployed.answer()

    assert (result.reason, code_of(result)) == ("runner_error", 70)
    assert_undone(deployed)


def assert_undone(repo: Repo) -> None:
    """Nothing runs, nothing is held, and what there is of a record holds together."""
    assert read_leases(repo.state) == []
    assert repo.lock_is_free()
    for folder in repo.run_dirs():
        assert processes_of(folder.name) == []
        assert groups_of(folder.name) == []
        assert not (folder / "lock").exists()
        if (folder / "run.json").exists():
            assert verify_chain(folder) == []


# A disk that is full


class FullDisk:
    """From the n-th write on, every write of the record fails as a full disk makes it fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int, *, code: int = errno.ENOSPC) -> None:
        self.left = after
        self.code = code
        for owner, name in ((RunFolder, "_write_plain"), (AppendFile, "write"), (RunFolder, "link")):
            monkeypatch.setattr(owner, name, self._failing(getattr(owner, name)))

    def _failing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any, **more: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise EvidenceWriteFailed("somewhere", OSError(self.code, os.strerror(self.code)))
            return real(*args, **more)

        return write


@pytest.mark.parametrize("after", [*range(12), *range(12, 75, 7)])
async def test_a_disk_that_fills_up_at_any_write(
    deployed: Repo, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    await deployed.answer()  # whatever is opened once and kept is open now
    before = len(os.listdir("/proc/self/fd"))
    disk = FullDisk(monkeypatch, after)

    with anyio.fail_after(30):
        result = await deployed.answer()

    assert disk.left < 0, "the disk never filled up"
    assert (result.ok, result.reward) == (False, None)
    assert (result.verdict, result.reason, code_of(result)) == ("no_verdict", "disk_full", 3)
    assert str(result.message).startswith(
        ("evidence_write_failed:", "no evidence can be kept: evidence_write_failed:")
    )
    assert_undone(deployed)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_another_failure_to_write_is_taken_for_ours(
    deployed: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    FullDisk(monkeypatch, 30, code=errno.EIO)

    result = await deployed.answer()

    assert (result.reason, code_of(result)) == ("runner_error", 70)
    assert_undone(deployed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.needs("mount")
async def test_a_real_disk_that_fills_up(deployed: Repo, small_disk: Path) -> None:
    deployed.contract(
        tests={"cmds": ["head -c 20000000 /dev/zero; sleep 600"]},
        deploy={"teardown_cmds": ["touch torn_down"]},
    )

    with anyio.fail_after(30):
        result = await deployed.answer(artifacts=str(small_disk))

    assert (result.verdict, result.reason, code_of(result)) == ("no_verdict", "disk_full", 3)
    assert (deployed.root / "torn_down").exists()
    folder = small_disk / result.run_id
    assert verify_chain(folder) == []
    assert b"disk_full" in (folder / "verdict.json").read_bytes()
    assert b'"type":"run_finished"' in (folder / "events.jsonl").read_bytes().splitlines()[-1]
    assert_undone(deployed)


async def test_a_command_that_removes_the_evidence_ends_the_run(deployed: Repo) -> None:
    folder = "os.path.realpath(os.environ['AIDER_FSM_ARTIFACTS_DIR'] + '/../../..')"
    remove = f"import os, shutil; shutil.rmtree({folder})"
    deployed.contract(
        tests={"cmds": [f'{sys.executable} -c "{remove}"']},
        rollout={"run_cmds": ["touch rolled"]},
        deploy={"teardown_cmds": ["touch torn_down"]},
    )

    with anyio.fail_after(30):
        result = await deployed.answer()

    assert (result.ok, result.verdict, result.reason, code_of(result)) == (
        False,
        "no_verdict",
        "runner_error",
        70,
    )
    assert str(result.message).startswith("evidence_write_failed: ")
    assert not (deployed.root / "rolled").exists()
    assert_undone(deployed)


@pytest.mark.parametrize("place", ["artifacts", "state_dir"])
async def test_a_place_that_cannot_be_written_is_refused_first(
    deployed: Repo, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("")

    wishes: dict[str, Any] = {place: str(tmp_path / "file" / "below")}
    result = await deployed.answer(**wishes)

    assert (result.reason, code_of(result)) == ("preflight_failed", 4)
    assert result.run_dir is None
    assert deployed.lock_is_free()
