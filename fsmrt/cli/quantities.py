"""Durations and sizes as people write them."""

from __future__ import annotations

import argparse
import math
import re

_DURATION = r"(?a:(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?)"
_SECONDS = {"ms": 0.001, None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = r"(?ai:(\d{1,18}(?:\.\d+)?)\s*([kmgt]?)(i?)b?)"
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def seconds(text: str) -> float:
    """`90`, `90s`, `5m`, `2h`; more than nothing, and finite."""
    parts = re.fullmatch(_DURATION, text.strip())
    value = float(parts[1]) * _SECONDS[parts[2]] if parts else 0.0
    if not parts or not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write 90, 90s, 5m or 2h")
    return value


def size(text: str) -> int:
    """`1000`, `64k`, `10MiB`, `1 GB`. With an i the unit is a power of 1024, as it is for a bare letter."""
    parts = re.fullmatch(_SIZE, text.strip())
    value = int(float(parts[1]) * _unit(parts[2].lower(), parts[3], parts[0])) if parts else 0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 500000, 64k or 10MiB")
    return value


def _unit(letter: str, binary: str, whole: str) -> int:
    decimal = not binary and whole[-1] in "bB"
    return (1000 if decimal else 1024) ** _POWER[letter] if letter else 1


def duration(value: float) -> str:
    """For people: `0.42s`, `12.3s`, `4m05s`, `2h03m`."""
    if value < 9.995:
        return f"{value:.2f}s"
    if value < 59.95:
        return f"{value:.1f}s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def clock(value: float) -> str:
    """For a column that counts: `0:07`, `12:03`, `1:02:03`."""
    minutes, rest = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def counted(number: int, noun: str) -> str:
    """`1 command`, `2 commands`."""
    plural = noun + ("es" if noun.endswith(("s", "x", "ch")) else "s")
    return f"{number} {noun if number == 1 else plural}"
