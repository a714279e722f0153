"""Judging a metrics file: is it well formed, does it hold what was promised, and what is the score?"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Literal

import msgspec

MetricsStage = Literal["evaluation", "benchmark"]

MAX_METRICS_BYTES: Final = 16 * 1024 * 1024
_LONGEST_EXACT_INTEGER: Final = 308  # digits; every such integer is also a finite float
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class MetricsJudgement(msgspec.Struct, frozen=True):
    """`errors` has the first failure of the file, or nothing; `score` is None unless `ok`."""

    ok: bool
    errors: tuple[str, ...]
    metrics: dict[str, Any] | None
    """The object, as soon as there is one, accepted or not."""
    score: float | None


def outside_repo(stage: MetricsStage, path: str) -> str:
    return f"{_prefix(stage)}metrics_outside_repo: {path}"


def file_missing(stage: MetricsStage, path: str) -> str:
    return f"{_prefix(stage)}metrics_file_missing: {path}"


def failed_to_read(stage: MetricsStage, why: str) -> str:
    return f"{_prefix(stage)}failed_to_read: {why}"


def judge(data: bytes, *, stage: MetricsStage, required_keys: Sequence[str], nonce: str) -> MetricsJudgement:
    """Judges the bytes of a metrics file. Never raises, whatever they are.

    Of a key that an object has twice the last value counts, but no value that is no number hides behind it.
    """
    try:
        value = _parsed(data)
    except _Rejected as rejected:
        return _failed(stage, str(rejected))
    if not isinstance(value, dict):
        return _failed(stage, "metrics_json_not_object")
    error = _broken_promise(value, required_keys, nonce)
    if error is not None:
        return _failed(stage, error, value)
    if _lacks_ok(value, required_keys):
        return MetricsJudgement(False, (f"{stage}.ok_not_true",), value, None)
    return MetricsJudgement(True, (), value, score_of(value, required_keys))


def score_of(metrics: dict[str, Any], required_keys: Iterable[str]) -> float | None:
    """The first finite number among `score`, `reward`, and the required keys that end in one of the two."""
    dotted = [key for key in required_keys if key.endswith((".score", ".reward"))]
    for key in ("score", "reward", *dotted):
        number = _finite(_lookup(metrics, key))
        if number is not None:
            return number
    return None


class _Rejected(Exception):
    """Carries an error text to `judge`; never leaves this module."""


class _Missing:
    pass


_MISSING: Final = _Missing()


def _prefix(stage: MetricsStage) -> str:
    return "evaluation." if stage == "evaluation" else ""


def _failed(stage: MetricsStage, error: str, metrics: dict[str, Any] | None = None) -> MetricsJudgement:
    return MetricsJudgement(False, (_prefix(stage) + error,), metrics, None)


def _parsed(data: bytes) -> object:
    overwritten: list[tuple[str, object]] = []
    try:
        text = data.decode("utf-8")
        value: object = json.loads(text, parse_int=_integer, object_pairs_hook=partial(_object, overwritten))
    except UnicodeDecodeError as error:
        raise _Rejected(f"invalid_json: not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise _Rejected("invalid_json: nested too deeply") from None
    except ValueError as error:
        raise _Rejected(f"invalid_json: {error}") from None
    for path, found in [("$", value), *overwritten]:
        if (where := _not_finite(path, found)) is not None:
            raise _Rejected(f"metrics_number_not_finite: {where}")
    if _SURROGATE_ESCAPE.search(text):
        _check_encodable(value)
    return value


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= _LONGEST_EXACT_INTEGER else float(text)


def _object(overwritten: list[tuple[str, object]], pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            overwritten.append((f"$..{key}", found[key]))
        found[key] = value
    return found


def _not_finite(start: str, value: object) -> str | None:
    """The JSON path of the first number, in file order, that is none."""
    pending: list[tuple[str, object]] = [(start, value)]
    while pending:
        path, item = pending.pop()
        if isinstance(item, float) and not math.isfinite(item):
            return path
        if isinstance(item, dict | list):
            pending.extend(reversed(list(_members(path, item))))
    return None


def _members(path: str, item: dict[str, object] | list[object]) -> Iterator[tuple[str, object]]:
    if isinstance(item, list):
        for index, value in enumerate(item):
            if isinstance(value, float | dict | list):
                yield f"{path}[{index}]", value
    else:
        for key, value in item.items():
            if isinstance(value, float | dict | list):
                yield path + (f".{key}" if _PLAIN_KEY.fullmatch(key) else f"[{json.dumps(key)}]"), value


def _check_encodable(value: object) -> None:
    """Half a surrogate pair is a text that could not be written down again."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (UnicodeEncodeError, RecursionError):
        raise _Rejected("invalid_json: half a surrogate pair in a text") from None


def _broken_promise(metrics: dict[str, Any], required_keys: Sequence[str], nonce: str) -> str | None:
    if "aider_fsm_nonce" in metrics and metrics["aider_fsm_nonce"] != nonce:
        return "nonce_mismatch"
    missing = [key for key in required_keys if isinstance(_lookup(metrics, key), _Missing)]
    return f"missing_keys: {', '.join(missing)}" if missing else None


def _lacks_ok(metrics: dict[str, Any], required_keys: Sequence[str]) -> bool:
    return ("ok" in metrics or "ok" in required_keys) and metrics["ok"] is not True


def _lookup(metrics: dict[str, Any], key: str) -> object:
    """The value at a literal key, else at the end of a dotted path through objects."""
    if key in metrics:
        return metrics[key]
    value: object = metrics
    for name in key.split("."):
        if not isinstance(value, dict) or name not in value:
            return _MISSING
        value = value[name]
    return value


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
