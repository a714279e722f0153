"""A small repository in a temporary folder, run for real, and what can be asked of the run afterwards.

`Repo.run` checks after every run what must be true of all of them: see `Ran.assert_sound`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import msgspec

from fsmrt.control import Control
from fsmrt.evidence.events import Event, read_events, verify_chain
from fsmrt.evidence.health import Health
from fsmrt.evidence.health import problems as health_problems
from fsmrt.lease import read_leases
from fsmrt.messages import RunResult, StageReport, TryReport
from fsmrt.result import code_of, document
from fsmrt.sandbox import cgroup
from fsmrt.sandbox.procfs import ProcessFacts
from fsmrt.sandbox.walk import Tree, run_marks
from fsmrt.session import Observer, run
from fsmrt.settings import Settings

ATTEMPT = "full_attempt_01"
SCORE = '{"ok": true, "score": 0.5}'
METRICS = ".aider_fsm/metrics.json"


def metrics_command(text: str = SCORE, path: str = METRICS) -> str:
    """A command that writes a metrics file."""
    return f"mkdir -p .aider_fsm && printf '%s' '{text}' > {path}"


def evaluation(text: str = SCORE, **more: Any) -> dict[str, Any]:
    """An `evaluation` section whose one command writes `text` as its metrics."""
    return {"run_cmds": [metrics_command(text)], "metrics_path": METRICS, **more}


def processes_of(run_id: str) -> list[ProcessFacts]:
    """Who carries the mark of a run, now."""
    return Tree(run_marks(run_id)).members()


def groups_of(run_id: str) -> list[Path]:
    """Control groups of a run that are still there."""
    parent = cgroup.own_group()
    return [] if parent is None else sorted(parent.glob(f"{cgroup.PREFIX}*{run_id}"))


async def until(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Wait for something another process does; fail if it does not."""
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 -- another process sets no event of ours
            await anyio.sleep(0.005)


def assert_alike(kept: Any, said: Any) -> None:
    """What is kept is what was said; only a secret in it may have been replaced."""
    if isinstance(kept, dict) and isinstance(said, dict):
        assert list(kept) == list(said)
        for name in said:
            assert_alike(kept[name], said[name])
    elif isinstance(kept, list) and isinstance(said, list):
        assert len(kept) == len(said)
        for one, other in zip(kept, said, strict=True):
            assert_alike(one, other)
    elif not (isinstance(kept, str) and "<redacted:" in kept):
        assert kept == said


class Ran:
    """A run that is over."""

    def __init__(self, repo: Repo, run_dir: Path, result: RunResult | None = None) -> None:
        self.repo = repo
        self.dir = run_dir
        self._result = result

    @property
    def result(self) -> RunResult:
        assert self._result is not None
        return self._result

    @property
    def code(self) -> int:
        return code_of(self.result)

    @property
    def verdict(self) -> tuple[bool, str, str | None, str | None, float | None]:
        """The answer in short: ok, verdict, reason, failed stage, reward."""
        r = self.result
        return r.ok, r.verdict, r.reason, r.failed_stage, r.reward

    @property
    def events(self) -> list[Event]:
        return list(read_events(self.dir))

    @property
    def story(self) -> list[str]:
        """The events in short: type, and the stage or try they are about."""
        return list(self._told())

    def _told(self) -> Iterator[str]:
        paths: dict[str, str] = {}
        for event in self.events:
            data = event.data
            if event.type == "command_started":
                paths[data["cmd_id"]] = Path(data["path"]).name
            about = paths.get(data.get("cmd_id", "")) or data.get("stage", "")
            yield f"{event.type} {about}".strip()

    def events_of(self, type_: str) -> list[dict[str, Any]]:
        return [event.data for event in self.events if event.type == type_]

    def stage(self, name: str) -> StageReport:
        return next(report for report in self.result.stages if report.stage == name)

    def tries(self, stage: str) -> tuple[TryReport, ...]:
        return self.stage(stage).tries

    def ran(self, stage: str) -> bool:
        """Whether a stage was considered and had something to do."""
        return any(report.stage == stage and not report.skipped for report in self.result.stages)

    def path(self, name: str) -> Path:
        """A file of the attempt."""
        return self.dir / ATTEMPT / name

    def text(self, name: str) -> str:
        return self.path(name).read_text()

    def json(self, name: str) -> Any:
        return json.loads(self.path(name).read_bytes())

    def layer(self, name: str) -> list[dict[str, Any]]:
        return [
            json.loads(line) for line in (self.dir / "layers" / f"{name}.jsonl").read_bytes().splitlines()
        ]

    @property
    def files(self) -> list[str]:
        """Every file of the run folder, by relative path."""
        return sorted(str(path.relative_to(self.dir)) for path in self.dir.rglob("*") if path.is_file())

    def assert_sound(self) -> None:
        """What holds for every run, whatever happened in it."""
        self.assert_nothing_left()
        self.assert_closed()
        self.assert_honest()
        self.assert_private()

    def assert_nothing_left(self) -> None:
        assert processes_of(self.dir.name) == []
        assert groups_of(self.dir.name) == []
        assert read_leases(self.repo.state) == []
        assert not (self.dir / "lock").exists()
        assert self.repo.lock_is_free()

    def assert_closed(self) -> None:
        """One end, and every command that began has one."""
        types = [event.type for event in self.events]
        assert types.count("run_finished") == 1
        assert types[-1] == "run_finished"
        assert self._ids("command_started") == self._ids("command_finished")
        assert [e["stage"] for e in self.events_of("stage_started")] == [
            e["stage"] for e in self.events_of("stage_finished")
        ]

    def _ids(self, type_: str) -> list[str]:
        return sorted(data["cmd_id"] for data in self.events_of(type_))

    def assert_honest(self) -> None:
        """The chain holds, files are what checkpoints say, nobody claims more than was seen."""
        assert verify_chain(self.dir) == []
        for checkpoint in self.events_of("checkpoint"):
            for name, facts in checkpoint["files"].items():
                data = (self.dir / name).read_bytes()[: facts["bytes"]]
                assert hashlib.sha256(data).hexdigest() == facts["sha256"], name
        health = msgspec.json.decode((self.dir / "health.json").read_bytes(), type=Health)
        assert health_problems(health) == []
        verdict = json.loads((self.dir / "verdict.json").read_bytes())
        assert "evidence" not in verdict
        if self._result is not None:
            expected = document(self._result)
            del expected["evidence"]
            assert_alike(verdict, json.loads(msgspec.json.encode(expected)))

    def assert_private(self) -> None:
        """Ours to read alone; what commands wrote themselves is theirs."""
        assert stat.S_IMODE(self.dir.stat().st_mode) == 0o700
        for name in self.files:
            if not name.startswith(("scratch/", f"{ATTEMPT}/stale/")):
                assert stat.S_IMODE((self.dir / name).stat().st_mode) == 0o600, name


class Repo:
    """A repository to run, its own state folder and the caller's environment."""

    def __init__(self, base: Path) -> None:
        self.root = base / "repo"
        self.root.mkdir()
        self.state = base / "state"
        self.home = base / "home"
        self.home.mkdir()
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "FSMRT_STATE_DIR": str(self.state),
        }

    def write(self, path: str, text: str, mode: int = 0o644) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)
        return target

    def contract(self, **sections: Any) -> Repo:
        """Write `pipeline.yml`; JSON is YAML too."""
        self.write("pipeline.yml", json.dumps({"version": 1, **sections}))
        return self

    def bootstrap(self, **fields: Any) -> Repo:
        self.write(".aider_fsm/bootstrap.yml", json.dumps({"version": 1, **fields}))
        return self

    def actions(self, *actions: Mapping[str, Any]) -> Repo:
        self.write(".aider_fsm/actions.yml", json.dumps({"version": 1, "actions": actions}))
        return self

    def settings(self, **wishes: Any) -> Settings:
        environ = {**self.environ, **wishes.pop("environ", {})}
        return Settings(**{"sandbox": "host", "environ": environ, **wishes})

    async def answer(
        self, *, control: Control | None = None, on_event: Observer | None = None, **wishes: Any
    ) -> RunResult:
        """Run and return the bare answer, which may have no run folder."""
        return await run(self.root, self.settings(**wishes), control=control, on_event=on_event)

    async def run(
        self, *, control: Control | None = None, on_event: Observer | None = None, **wishes: Any
    ) -> Ran:
        """Run, and check what holds for every run."""
        result = await self.answer(control=control, on_event=on_event, **wishes)
        assert result.run_dir is not None, result.message
        ran = Ran(self, Path(result.run_dir), result)
        ran.assert_sound()
        return ran

    def last(self) -> Ran:
        """The only run so far, which may have had nobody to answer to."""
        return Ran(self, self.run_dirs()[-1])

    def run_dirs(self) -> list[Path]:
        place = self.root / ".aider_fsm" / "artifacts"
        return sorted(place.iterdir()) if place.is_dir() else []

    def lock_is_free(self) -> bool:
        path = self.root / ".aider_fsm" / "run.lock"
        if not path.exists():
            return True
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def text(self, path: str) -> str:
        return (self.root / path).read_text()
