"""What a hostile or unlucky repository tries against the verdict, the record and the end of a run."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from fsmrt import openrun
from fsmrt.actors.kubectl import KubectlDumpActor
from fsmrt.control import Control
from fsmrt.errors import ContractError, EvidenceWriteFailed
from fsmrt.evidence.folder import RunFolder
from fsmrt.evidence.spool import Spool
from fsmrt.limits import cleanup
from fsmrt.messages import Ended
from fsmrt.result import code_of
from fsmrt.sandbox.host import HostSandbox
from tests.runs.repo import METRICS, Repo, evaluation, metrics_command, until

pytestmark = pytest.mark.anyio


async def test_no_verdict_is_read_while_a_process_of_the_stage_may_live(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leaks(self: HostSandbox, stage: str) -> Sequence[Ended]:
        return [Ended(pid=1, command="stuck", age_seconds=1.0, how="leaked")] if stage == "evaluation" else []

    monkeypatch.setattr(HostSandbox, "end_children", leaks)
    repo.contract(evaluation=evaluation())

    ran = await repo.run()

    assert ran.verdict == (False, "no_verdict", "sandbox_lost", "evaluation", None)
    assert ran.result.metrics is None


async def test_a_disk_that_fills_up_with_the_last_word_of_a_command_pairs_its_events(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Spool.write

    def write(self: Spool, data: bytes) -> None:
        if b"[fsmrt]" in data:
            raise EvidenceWriteFailed(self.rel, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        real(self, data)

    monkeypatch.setattr(Spool, "write", write)
    repo.contract(tests={"cmds": ["sleep 600"], "timeout_seconds": 1})

    ran = await repo.run()

    assert (ran.result.reason, ran.code) == ("disk_full", 3)
    assert ran.tries("tests")[0].timed_out


async def test_a_record_that_cannot_be_closed_in_time_is_no_success(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, real = threading.Event(), RunFolder.checkpoint_files

    def checkpoint(self: RunFolder) -> Any:
        if (self.path / "health.json").exists():
            assert stuck.wait(30)
        return real(self)

    def impatient(seconds: float = 15.0) -> anyio.CancelScope:
        scope = cleanup(0.3)
        threading.Timer(0.8, stuck.set).start()
        return scope

    monkeypatch.setattr(RunFolder, "checkpoint_files", checkpoint)
    monkeypatch.setattr(openrun, "cleanup", impatient)
    repo.contract(evaluation=evaluation())

    with anyio.fail_after(30):
        result = await repo.answer()

    assert (result.ok, result.verdict, result.reward) == (False, "no_verdict", None)
    assert (result.reason, code_of(result)) == ("runner_error", 70)
    assert str(result.message).startswith("evidence_write_failed:")


async def test_a_giant_left_where_a_verdict_is_expected_does_not_hold_the_run(repo: Repo) -> None:
    size = 1 << 40
    repo.contract(
        tests={"cmds": [f"mkdir -p .aider_fsm && truncate -s {size} {METRICS}"]},
        evaluation=evaluation(),
    )

    with anyio.fail_after(20):
        ran = await repo.run()

    assert ran.verdict == (True, "scored", None, None, 0.5)
    [moved] = ran.json("evaluation_summary.json")["moved_aside"]
    assert (moved["size"], moved["sha256"]) == (size, None)


async def test_a_scratch_folder_that_became_a_link_is_not_followed(repo: Repo, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "private").write_text("private")
    swap = f'rmdir "$AIDER_FSM_ARTIFACTS_DIR" && ln -s {outside} "$AIDER_FSM_ARTIFACTS_DIR"'
    repo.contract(tests={"cmds": [swap]})

    ran = await repo.run()

    sealed = ran.json("tests_scratch.json")
    assert [(one["path"], one["type"]) for one in sealed["files"]] == [(".", "link")]


async def test_actions_that_cannot_be_taken_away_are_no_defect(repo: Repo) -> None:
    trick = "rm .aider_fsm/actions.yml && mkdir -p .aider_fsm/actions.yml/x"
    repo.contract(tests={"cmds": ["true"]}).actions({"cmd": trick})

    ran = await repo.run()

    assert ran.result.reason != "runner_error", ran.result.message
    assert any(text.startswith("actions_left:") for text in ran.result.warnings)


async def test_a_workdir_no_file_system_could_hold_is_the_contracts_fault(repo: Repo) -> None:
    repo.contract(tests={"cmds": ["true"], "workdir": "x" * 300})

    ran = await repo.run()

    assert (ran.result.reason, ran.code) == ("workdir_invalid", 1)


async def test_what_a_cancelled_stage_changed_is_recorded(repo: Repo) -> None:
    control = Control()
    repo.contract(tests={"cmds": ["touch made; sleep 600"]})
    ran = None

    async with anyio.create_task_group() as group:

        async def go() -> None:
            nonlocal ran
            ran = await repo.run(control=control)

        group.start_soon(go)
        await until((repo.root / "made").exists)
        control.stop()

    assert ran is not None
    assert "made" in [record["path"] for record in ran.layer("filesystem")]


async def test_a_contract_file_that_appears_during_the_run_is_a_change(repo: Repo) -> None:
    repo.write(".aider_fsm/stages/evaluation.sh", metrics_command())
    repo.contract(
        tests={"cmds": ["echo true > .aider_fsm/stages/added.sh"]},
        evaluation={"run_cmds": ["sh .aider_fsm/stages/evaluation.sh"], "metrics_path": METRICS},
    )

    ran = await repo.run()

    assert "contract_changed: .aider_fsm/stages/added.sh" in ran.result.warnings


async def test_a_defect_in_the_dump_does_not_keep_teardown_from_running(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*_: object) -> None:
        raise ZeroDivisionError("a defect of ours")

    monkeypatch.setattr(KubectlDumpActor, "conclude", crash)
    repo.contract(
        tests={"cmds": ["true"]},
        deploy={"teardown_cmds": ["touch torn_down"], "kubectl_dump": {"enabled": True}},
    )

    ran = await repo.run()

    assert (ran.result.reason, ran.code) == ("runner_error", 70)
    assert (repo.root / "torn_down").exists()


async def test_half_a_surrogate_pair_in_a_command_is_told_before_anything_runs(repo: Repo) -> None:
    repo.write("pipeline.yml", '{"version": 1, "tests": {"cmds": ["echo \\ud800"]}}')

    with pytest.raises(ContractError):
        await repo.answer()


async def test_a_short_secret_passed_by_name_cannot_be_guessed_from_the_record(repo: Repo) -> None:
    repo.contract(tests={"cmds": ["true"]})
    one = await repo.run(env={"API_TOKEN": "first-value"})
    two = await repo.run(env={"API_TOKEN": "other-value"})

    said = [json.loads((ran.dir / "run.json").read_bytes())["unit_inputs"] for ran in (one, two)]
    assert said[0]["env_sha256"] == said[1]["env_sha256"]
    assert said[0]["secrets"] == ["API_TOKEN"]


async def test_an_observer_that_fails_does_not_keep_teardown_from_running(repo: Repo) -> None:
    def observe(event: object) -> None:
        raise BrokenPipeError("nobody reads")

    repo.contract(tests={"cmds": ["true"]}, deploy={"teardown_cmds": ["touch torn_down"]})

    result = await repo.answer(on_event=observe)

    assert (repo.root / "torn_down").exists(), result.message


async def test_metrics_of_the_largest_size_never_hold_the_loop(repo: Repo) -> None:
    text = '{"ok": true, "score": 1, "x": [' + ",".join(['{"a": 1}'] * 400_000) + "]}"
    repo.write("big.json", text)
    repo.contract(evaluation={"run_cmds": ["cp big.json metrics.json"], "metrics_path": "metrics.json"})
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = anyio.current_time()
            await anyio.sleep(0.005)
            longest = max(longest, anyio.current_time() - before)

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        ran = await repo.run()
        group.cancel_scope.cancel()

    assert ran.result.reward == 1.0
    assert (
        longest < 0.5
    )  # reading and redacting them takes seconds; only the bound for a busy machine is generous
