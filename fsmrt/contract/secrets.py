"""Which variables are secret, by how they were passed or by their names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

MIN_SECRET_LENGTH: Final = 6  # shorter values occur in innocent text, and replacing them would ruin it
_SECRET_WORDS: Final = frozenset(
    {"KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASS", "PWD", "CREDENTIAL", "CREDENTIALS"}
)
_PUBLIC_NAMES: Final = frozenset({"PWD"})  # by itself: the working directory
_PUBLIC_VALUES: Final = frozenset({"local"})  # the key which a local model is given


def is_secret_name(name: str) -> bool:
    """Whether a variable's name says that its value is secret. `API_KEY` does, `BYPASS_CACHE` does not."""
    upper = name.upper()
    if upper in _PUBLIC_NAMES:
        return False
    return upper.endswith("APIKEY") or not _SECRET_WORDS.isdisjoint(upper.split("_"))


def secret_values(passed: Mapping[str, str], secret_names: Collection[str] = ()) -> dict[str, str]:
    """The values to redact, by variable name, among everything passed to commands.

    `secret_names` are those passed as secrets explicitly. What is too short to be replaced is left out;
    `unredactable` names it.
    """
    return {
        name: passed[name] for name in _secret_among(passed, secret_names) if _is_redactable(passed[name])
    }


def unredactable(passed: Mapping[str, str], secret_names: Collection[str] = ()) -> tuple[str, ...]:
    """Secret variables whose values are too short to be found and replaced, though not empty."""
    return tuple(
        name
        for name in _secret_among(passed, secret_names)
        if 0 < len(passed[name]) < MIN_SECRET_LENGTH and passed[name] not in _PUBLIC_VALUES
    )


def _secret_among(passed: Mapping[str, str], secret_names: Collection[str]) -> list[str]:
    return [name for name in passed if name in secret_names or is_secret_name(name)]


def _is_redactable(value: str) -> bool:
    return len(value) >= MIN_SECRET_LENGTH and value not in _PUBLIC_VALUES
