"""`python -m adder.evaluation`: judge the samples and write the metrics.

The rewards in the samples are not trusted: each completion is judged again against the answer, and a question
without a sample counts as wrong.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from .questions import questions, reward

ROLLOUT = Path(".aider_fsm/rollout.json")
METRICS = Path(".aider_fsm/metrics.json")


def completions() -> dict[str, str]:
    samples = Path(json.loads(ROLLOUT.read_text())["paths"]["samples_jsonl"])
    rows = [json.loads(line) for line in samples.read_text().splitlines() if line.strip()]
    return {row["prompt"]: row["completion"] for row in rows}


def score(said: dict[str, str], answers: dict[str, int]) -> float:
    """The share of questions answered right."""
    return sum(reward(said.get(prompt, ""), answer) for prompt, answer in answers.items()) / len(answers)


def main() -> int:
    answers = questions()
    metrics = {
        "ok": True,
        "score": score(completions(), answers),
        "counts": {"questions": len(answers)},
        # Repeats this stage's nonce: proof that the file was written by this evaluation and no earlier one.
        "aider_fsm_nonce": os.environ["AIDER_FSM_NONCE"],
    }
    METRICS.write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"score {metrics['score']:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
