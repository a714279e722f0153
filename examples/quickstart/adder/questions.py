"""The questions, their answers, and how a completion is judged: shared by rollout and evaluation."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

QUESTIONS = Path("data/questions.jsonl")
SMOKE_LIMIT = 8


def questions() -> dict[str, int]:
    """Prompt -> right answer: all of them in full mode, the first few in smoke mode."""
    rows = [json.loads(line) for line in QUESTIONS.read_text().splitlines() if line.strip()]
    wanted = rows if os.environ.get("AIDER_EVAL_MODE") == "full" else rows[:SMOKE_LIMIT]
    return {row["prompt"]: row["answer"] for row in wanted}


def reward(completion: str, answer: int) -> float:
    """1.0 if the last number of the completion is the answer, else 0.0."""
    numbers = re.findall(r"-?\d+", completion)
    return 1.0 if numbers and int(numbers[-1]) == answer else 0.0
