"""Numbers: only from this run, only complete and finite, and never made of a failure."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import anyio
import pytest

from fsmrt.actors.recorder import Recorder
from fsmrt.messages import Checkpoint
from tests.runs.repo import METRICS, SCORE, Repo, evaluation, metrics_command

pytestmark = pytest.mark.anyio

TESTS = {"cmds": ["true"]}


def measuring(metrics: Any, **more: Any) -> dict[str, Any]:
    """An `evaluation` section that writes this object."""
    return evaluation(json.dumps(metrics), **more)


@pytest.mark.parametrize(
    ("metrics", "keys", "reward"),
    [
        ({"ok": True, "score": 0.25}, [], 0.25),
        ({"score": 1}, [], 1.0),
        ({"score": 0.0}, [], 0.0),
        ({"score": -2.5}, [], -2.5),
        ({"reward": 0.5}, [], 0.5),
        ({"score": 0.1, "reward": 0.9}, [], 0.1),
        ({"score": True, "reward": 0.9}, [], 0.9),
        ({"score": "0.7", "reward": 0.9}, [], 0.9),
        ({"a": {"score": 0.3}}, ["a.score"], 0.3),
        ({"a": {"reward": 0.4}, "b": {"score": 0.6}}, ["b.score", "a.reward"], 0.6),
        ({"a.score": 0.3}, ["a.score"], 0.3),
    ],
)
async def test_the_score_of_accepted_metrics(
    repo: Repo, metrics: Any, keys: list[str], reward: float
) -> None:
    ran = await repo.contract(evaluation=measuring(metrics, required_keys=keys)).run()

    assert ran.verdict == (True, "scored", None, None, reward)
    assert ran.result.metrics == metrics


@pytest.mark.parametrize("metrics", [{"ok": True}, {"score": None}, {"score": True}, {"a": {"score": 0.3}}])
async def test_metrics_without_a_number_are_no_score(repo: Repo, metrics: Any) -> None:
    ran = await repo.contract(evaluation=measuring(metrics)).run()

    assert ran.verdict == (True, "no_verdict", "metrics_without_score", None, None)
    assert ran.code == 0


REFUSED = [
    ("[1]", [], "metrics_json_not_object", "metrics_invalid"),
    ("{", [], "invalid_json: ", "metrics_invalid"),
    ("", [], "invalid_json: ", "metrics_invalid"),
    ('{"score": NaN}', [], "metrics_number_not_finite: ", "metrics_invalid"),
    ('{"a": [1, {"b": -Infinity}]}', [], "metrics_number_not_finite: ", "metrics_invalid"),
    ('{"score": 1e999}', [], "metrics_number_not_finite: ", "metrics_invalid"),
    ('{"score": 1, "aider_fsm_nonce": "old"}', [], "nonce_mismatch", "metrics_invalid"),
    ('{"score": 1}', ["z", "score", "a.b"], "missing_keys: z, a.b", "metrics_invalid"),
    ('{"score": 1}', ["ok"], "missing_keys: ok", "metrics_invalid"),
    ('{"score": 1, "ok": false}', [], "ok_not_true", "metrics_not_ok"),
    ('{"score": 1, "ok": 1}', ["ok"], "ok_not_true", "metrics_not_ok"),
    ('{"score": 1, "ok": "true"}', [], "ok_not_true", "metrics_not_ok"),
]


@pytest.mark.parametrize(("text", "keys", "error", "reason"), REFUSED)
async def test_metrics_that_do_not_hold_fail_the_run(
    repo: Repo, text: str, keys: list[str], error: str, reason: str
) -> None:
    ran = await repo.contract(evaluation=evaluation(text, required_keys=keys)).run()

    assert ran.verdict == (False, "no_verdict", reason, "metrics", None)
    assert ran.code == 1
    assert str(ran.result.message).startswith(f"evaluation.{error}")
    assert ran.result.metrics_errors == (ran.result.message,)
    assert ran.path("metrics_evaluation.json").read_text() == text
    assert not ran.json("evaluation_summary.json")["ok"]


async def test_a_dotted_key_with_null_is_present(repo: Repo) -> None:
    ran = await repo.contract(
        evaluation=measuring({"a": {"b": None}, "score": 1}, required_keys=["a.b"])
    ).run()

    assert ran.result.reward == 1.0


async def test_the_nonce_of_the_stage_is_accepted(repo: Repo) -> None:
    write = 'printf \'{"score": 1, "aider_fsm_nonce": "%s"}\' $AIDER_FSM_NONCE > .aider_fsm/metrics.json'

    ran = await repo.contract(evaluation={"run_cmds": [write], "metrics_path": METRICS}).run()

    assert ran.result.reward == 1.0


@pytest.mark.parametrize(
    ("command", "error", "reason"),
    [
        ("true", "metrics_file_missing: {path}", "metrics_missing"),
        ("mkdir -p {path}", "failed_to_read: {path}: not a regular file", "metrics_invalid"),
        ("mkfifo {path}", "failed_to_read: {path}: not a regular file", "metrics_invalid"),
        ("ln -s /etc/hostname {path}", "metrics_outside_repo: {path}", "metrics_invalid"),
        (
            "ln -s {path} {path}",
            "failed_to_read: {path}: Too many levels of symbolic links",
            "metrics_invalid",
        ),
        ("ln -s nowhere {path}", "metrics_file_missing: {path}", "metrics_missing"),
        ("truncate -s 17M {path}", "failed_to_read: {path}: larger than 16777216 bytes", "metrics_invalid"),
    ],
)
async def test_files_that_are_not_read(repo: Repo, command: str, error: str, reason: str) -> None:
    path = "m.json"
    ran = await repo.contract(
        evaluation={"run_cmds": [command.format(path=path)], "metrics_path": path}
    ).run()

    assert (ran.result.reason, ran.result.failed_stage) == (reason, "metrics")
    assert ran.result.message == f"evaluation.{error.format(path=path)}"


async def test_a_link_inside_the_repository_is_followed(repo: Repo) -> None:
    write = f"printf '%s' '{SCORE}' > real.json && ln -s real.json m.json"

    ran = await repo.contract(evaluation={"run_cmds": [write], "metrics_path": "m.json"}).run()

    assert ran.result.reward == 0.5


async def test_evaluation_without_a_metrics_path_gives_no_number(repo: Repo) -> None:
    ran = await repo.contract(evaluation={"run_cmds": ["true"]}).run()

    assert ran.verdict == (True, "no_verdict", "metrics_not_declared", None, None)


# Benchmark


async def test_the_benchmark_counts_where_evaluation_has_no_metrics(repo: Repo) -> None:
    ran = await repo.contract(
        evaluation={"run_cmds": ["true"]}, benchmark=evaluation('{"score": 0.75}')
    ).run()

    assert ran.verdict == (True, "scored", None, None, 0.75)
    assert ran.json("metrics.json") == {"score": 0.75}


async def test_evaluation_comes_first_where_both_measure(repo: Repo) -> None:
    benchmark = {"run_cmds": [metrics_command('{"score": 0.75}', "b.json")], "metrics_path": "b.json"}

    ran = await repo.contract(evaluation=evaluation(), benchmark=benchmark).run()

    assert ran.result.reward == 0.5
    assert ran.json("metrics_benchmark.json") == {"score": 0.75}
    assert ran.json("metrics.json") == json.loads(SCORE)


@pytest.mark.parametrize(("text", "keys", "error", "reason"), REFUSED)
async def test_a_benchmark_that_does_not_hold_fails_the_run_too(
    repo: Repo, text: str, keys: list[str], error: str, reason: str
) -> None:
    benchmark = {
        "run_cmds": [metrics_command(text, "b.json")], "metrics_path": "b.json", "required_keys": keys
    }  # fmt: skip

    ran = await repo.contract(evaluation=evaluation(), benchmark=benchmark).run()

    assert ran.verdict == (False, "no_verdict", reason, "metrics", None)
    prefix = "benchmark." if error == "ok_not_true" else ""
    assert str(ran.result.message).startswith(prefix + error)


async def test_both_may_measure_while_the_record_is_behind(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Recorder._checkpoint

    async def on_a_slow_disk(recorder: Recorder, wanted: Checkpoint) -> None:
        await anyio.sleep(0.3)
        await checkpoint(recorder, wanted)

    monkeypatch.setattr(Recorder, "_checkpoint", on_a_slow_disk)
    benchmark = {"run_cmds": ["echo '{\"score\": 0.75}' > b.json"], "metrics_path": "b.json"}

    ran = await repo.contract(tests=TESTS, evaluation=evaluation(), benchmark=benchmark).run()

    assert ran.verdict == (True, "scored", None, None, 0.5)
    assert ran.json("metrics.json") == json.loads(SCORE)


async def test_one_file_may_serve_both(repo: Repo) -> None:
    ran = await repo.contract(
        evaluation=evaluation(), benchmark={"run_cmds": ["true"], "metrics_path": METRICS}
    ).run()

    assert ran.result.ok
    assert ran.json("metrics_benchmark.json") == json.loads(SCORE)


# Freshness


async def test_what_lay_there_before_does_not_count(repo: Repo) -> None:
    stale = repo.write(METRICS, '{"ok": true, "score": 1.0}')
    digest = hashlib.sha256(stale.read_bytes()).hexdigest()

    ran = await repo.contract(evaluation={"run_cmds": ["true"], "metrics_path": METRICS}).run()

    assert ran.verdict == (False, "no_verdict", "metrics_missing", "metrics", None)
    (moved,) = ran.json("evaluation_summary.json")["moved_aside"]
    assert (moved["path"], moved["kind"], moved["size"], moved["sha256"]) == (METRICS, "file", 26, digest)
    assert ran.path(f"stale/evaluation/{METRICS}").read_text() == '{"ok": true, "score": 1.0}'
    assert not stale.exists()


async def test_an_earlier_stage_cannot_write_the_verdict(repo: Repo) -> None:
    ran = await repo.contract(
        rollout={"run_cmds": [metrics_command('{"score": 1.0}')]},
        evaluation={"run_cmds": ["true"], "metrics_path": METRICS},
    ).run()

    assert ran.result.reason == "metrics_missing"


async def test_a_link_is_moved_as_a_link(repo: Repo) -> None:
    outside = repo.home / "outside.json"
    outside.write_text(SCORE)
    (repo.root / "m.json").symlink_to(outside)

    write = f"printf '%s' '{SCORE}' > m.json"
    ran = await repo.contract(evaluation={"run_cmds": [write], "metrics_path": "m.json"}).run()

    assert ran.result.reward == 0.5
    kept = ran.path("stale/evaluation/m.json")
    assert kept.is_symlink()
    assert os.readlink(kept) == str(outside)
    assert outside.read_text() == SCORE
    assert [one["kind"] for one in ran.json("evaluation_summary.json")["moved_aside"]] == ["link"]


async def test_a_folder_reached_through_a_link_is_not_emptied(repo: Repo) -> None:
    """The parent of the metrics file may be a link that leads out; what lies there is not ours to move."""
    outside = repo.home / "outside"
    outside.mkdir()
    (outside / "m.json").write_text(SCORE)
    (repo.root / "out").symlink_to(outside)

    ran = await repo.contract(evaluation={"run_cmds": ["true"], "metrics_path": "out/m.json"}).run()

    assert ran.result.message == "evaluation.metrics_outside_repo: out/m.json"
    assert (outside / "m.json").read_text() == SCORE


@pytest.mark.parametrize(
    ("stage", "files"),
    [
        ("rollout", [".aider_fsm/rollout.json"]),
        ("evaluation", [METRICS, ".aider_fsm/hints_run.json", ".aider_fsm/hints_used.json"]),
        ("benchmark", ["b.json"]),
    ],
)
async def test_which_files_each_stage_owns(repo: Repo, stage: str, files: list[str]) -> None:
    every = [
        ".aider_fsm/rollout.json",
        METRICS,
        ".aider_fsm/hints_run.json",
        ".aider_fsm/hints_used.json",
        "b.json",
    ]
    for name in every:
        repo.write(name, "old")
    repo.contract(
        rollout={"run_cmds": ["true"]},
        evaluation=evaluation(),
        benchmark={"run_cmds": [metrics_command(SCORE, "b.json")], "metrics_path": "b.json"},
    )

    ran = await repo.run(stages=(stage,))

    assert sorted(one["path"] for one in ran.json(f"{stage}_summary.json")["moved_aside"]) == sorted(files)


# The contract while it runs


async def test_a_contract_that_changes_is_not_obeyed_and_remarked(repo: Repo) -> None:
    repo.write(".aider_fsm/stages/x.sh", "true\n")
    repo.contract(
        tests={"cmds": ["echo '{}' > pipeline.yml; echo false > .aider_fsm/stages/x.sh"]},
        evaluation=evaluation(),
    )

    ran = await repo.run()

    assert ran.result.ok
    warning = next(text for text in ran.result.warnings if text.startswith("contract_changed"))
    assert warning == "contract_changed: .aider_fsm/stages/x.sh, pipeline.yml"
    assert ran.events_of("contract_changed")[0]["files"] == [".aider_fsm/stages/x.sh", "pipeline.yml"]


async def test_the_contract_is_kept_as_it_was_read(repo: Repo) -> None:
    repo.write("run.sh", "echo ran\n")
    repo.contract(tests={"cmds": ["sh run.sh"]})

    ran = await repo.run()

    assert (ran.dir / "contract/pipeline.yml").read_bytes() == (repo.root / "pipeline.yml").read_bytes()
    assert (ran.dir / "contract/run.sh").read_text() == "echo ran\n"
    run = json.loads((ran.dir / "run.json").read_bytes())
    assert set(run["contract_files"]) == {"pipeline.yml", "run.sh"}


async def test_the_number_is_in_the_chain(repo: Repo) -> None:
    ran = await repo.contract(evaluation=measuring({"ok": True, "score": 0.25})).run()

    assert ran.events[-1].data["reward"] == 0.25


async def test_hints_that_are_demanded_and_not_checked_are_said(repo: Repo) -> None:
    demanding = measuring({"ok": True, "score": 1}, env={"AIDER_FSM_REQUIRE_HINTS": "1"})
    ran = await repo.contract(evaluation=demanding).run()

    assert any(warning.startswith("hints_not_checked: ") for warning in ran.result.warnings)
