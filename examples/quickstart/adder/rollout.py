"""`python -m adder.rollout`: ask the service every question and keep what it said.

The samples go to the stage's own folder, which the runtime seals when the stage ends; `rollout.json` says
where they are and how many there are.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from . import client
from .questions import questions, reward

ROLLOUT = Path(".aider_fsm/rollout.json")


def ask_all(url: str) -> tuple[list[dict], int]:
    """Every answered question as a sample, and how many requests failed."""
    samples, errors = [], 0
    for prompt, answer in questions().items():
        try:
            completion = client.get_completion(url, prompt)
        except (OSError, ValueError, KeyError) as error:
            print(f"{prompt}: {error}", file=sys.stderr)
            errors += 1
            continue
        samples.append({"prompt": prompt, "completion": completion, "reward": reward(completion, answer)})
    return samples, errors


def main() -> int:
    samples, errors = ask_all(client.base_url())
    kept = Path(os.environ["AIDER_FSM_ARTIFACTS_DIR"]).resolve() / "samples.jsonl"
    kept.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    report = {
        "ok": bool(samples),
        "paths": {"samples_jsonl": str(kept)},
        "counts": {"samples": len(samples) + errors, "errors": errors},
    }
    ROLLOUT.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{len(samples)} samples, {errors} errors")
    return 0 if samples else 1


if __name__ == "__main__":
    sys.exit(main())
