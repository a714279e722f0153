"""Did you mean: the known word nearest to a misspelled one."""

from __future__ import annotations

from collections.abc import Iterable

NEAR = 2
"""Edits that still count as a slip of the hand."""


def edit_distance(left: str, right: str, limit: int = 1000) -> int:
    """Insertions, deletions and replacements that turn one word into the other (Levenshtein).

    Stops counting beyond `limit`, and then gives some number above it.
    """
    above = list(range(len(right) + 1))
    for row, letter in enumerate(left, 1):
        line = [row]
        for column, other in enumerate(right, 1):
            line.append(min(above[column] + 1, line[-1] + 1, above[column - 1] + (letter != other)))
        if min(line) > limit:
            return limit + 1
        above = line
    return above[-1]


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The closest known word within `NEAR` edits, the first of equals; None if there is none."""
    best, fewest = None, NEAR + 1
    for candidate in known:
        if abs(len(candidate) - len(word)) < fewest:
            edits = edit_distance(word, candidate, fewest - 1)
            if edits < fewest:
                best, fewest = candidate, edits
    return best
