"""The model: it answers `a + b`, `a - b` and `a * b` in digits, and admits when it does not know."""

from __future__ import annotations

import operator
import re

UNKNOWN = "I do not know."
SUM = re.compile(r"(-?\d+) ([-+*]) (-?\d+)")
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def complete(prompt: str) -> str:
    """The completion of one prompt: `The answer is N.`, or `UNKNOWN`."""
    asked = SUM.search(prompt)
    if asked is None:
        return UNKNOWN
    left, sign, right = asked.groups()
    return f"The answer is {OPERATORS[sign](int(left), int(right))}."
