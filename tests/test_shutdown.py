"""An asyncio program that ends while a run is going on: every task is cancelled by hand, ours among them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """\
import asyncio, sys
import fsmrt

async def main():
    started = asyncio.Event()
    seen = lambda event: started.set() if event.type == "command_started" else None
    run = asyncio.create_task(fsmrt.run(sys.argv[1], fsmrt.Settings(state_dir=sys.argv[2]), on_event=seen))
    await started.wait()
    raise SystemExit(7)

asyncio.run(main())
"""

PIPELINE = """\
version: 1
security: {mode: system, max_cmd_seconds: 60}
tests:
  cmds: ["sleep 60"]
deploy:
  teardown_cmds: ["echo down > torn_down"]
"""


def test_a_run_is_torn_down_and_closed_when_the_loop_shuts_down(tmp_path: Path) -> None:
    root = tmp_path / "repo"
    root.mkdir()
    (root / "pipeline.yml").write_text(PIPELINE)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, root, tmp_path / "state"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (7, "")
    assert (root / "torn_down").exists()
    (run,) = (root / ".aider_fsm" / "artifacts").iterdir()
    verdict = json.loads((run / "verdict.json").read_text())
    assert (verdict["verdict"], verdict["reason"]) == ("cancelled", "cancelled_by_caller")
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert events[-1]["type"] == "run_finished"
    started, finished = (
        [e["type"] for e in events].count(f"command_{end}") for end in ("started", "finished")
    )
    assert started == finished
    assert list((tmp_path / "state" / "runs").iterdir()) == []
