"""Judging a metrics file."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmrt.contract import metrics as judging
from fsmrt.contract.metrics import MetricsJudgement, MetricsStage, judge, score_of

NONCE = "0123456789abcdef0123456789abcdef"


def judged(text: str | bytes, *keys: str, stage: MetricsStage = "evaluation") -> MetricsJudgement:
    data = text.encode() if isinstance(text, str) else text
    return judge(data, stage=stage, required_keys=keys, nonce=NONCE)


def test_an_accepted_file_gives_its_score() -> None:
    assert judged('{"ok": true, "score": 0.5}', "ok", "score") == MetricsJudgement(
        True, (), {"ok": True, "score": 0.5}, 0.5
    )
    assert judged("{}") == MetricsJudgement(True, (), {}, None)
    assert judged(f'{{"score": 0, "aider_fsm_nonce": "{NONCE}"}}').score == 0.0


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"\xff{}", "invalid_json: not UTF-8 at byte 0"),
        ("[1]", "metrics_json_not_object"),
        ("null", "metrics_json_not_object"),
        ('{"score": NaN}', "metrics_number_not_finite: $.score"),
        ('{"a": [1, {"b c": Infinity}]}', 'metrics_number_not_finite: $.a[1]["b c"]'),
        ("[-Infinity]", "metrics_number_not_finite: $[0]"),
        ('{"a": 1e999}', "metrics_number_not_finite: $.a"),
        ('{"a": -1e999, "b": NaN}', "metrics_number_not_finite: $.a"),
        ('{"a": 1' + "0" * 400 + "}", "metrics_number_not_finite: $.a"),
        ('{"a": 1' + "0" * 5000 + "}", "metrics_number_not_finite: $.a"),
        ('{"a": NaN, "a": 1}', "metrics_number_not_finite: $..a"),
        ('{"x": {"a": {"b": NaN}, "a": 1}}', "metrics_number_not_finite: $..a.b"),
        ('{"aider_fsm_nonce": "x"}', "nonce_mismatch"),
        ('{"aider_fsm_nonce": null, "ok": false}', "nonce_mismatch"),
        ("[" * 100_000, "invalid_json: nested too deeply"),
        ('{"a":' * 100_000, "invalid_json: nested too deeply"),
        ('{"a": "\\ud800"}', "invalid_json: half a surrogate pair in a text"),
    ],
)
def test_a_refused_file_says_why(text: str | bytes, error: str) -> None:
    assert judged(text).errors == (f"evaluation.{error}",)
    assert judged(text, stage="benchmark").errors == (error,)
    assert not judged(text).ok


@pytest.mark.parametrize("text", ["", " ", "{", "{'a': 1}", '{"a": 01}', "\ufeff{}", "nan", '{"a": 1} x'])
def test_what_is_no_json_is_invalid(text: str) -> None:
    (error,) = judged(text).errors
    assert error.startswith("evaluation.invalid_json: ")


def test_missing_keys_are_named_in_declared_order() -> None:
    text = '{"b": {"c": null}, "x.y": 1, "l": [1]}'
    assert judged(text, "b.c", "x.y", "b").ok
    assert judged(text, "z", "b.d", "b.c.e", "l.0").errors == ("evaluation.missing_keys: z, b.d, b.c.e, l.0",)
    assert judged(text, "ok").errors == ("evaluation.missing_keys: ok",)


@pytest.mark.parametrize("value", ["false", "1", '"true"', "null", "[true]"])
def test_ok_must_be_true_when_present(value: str) -> None:
    found = judged(f'{{"ok": {value}, "score": 1}}')
    assert found.errors == ("evaluation.ok_not_true",)
    assert found.score is None
    assert found.metrics is not None
    assert judged(f'{{"ok": {value}}}', stage="benchmark").errors == ("benchmark.ok_not_true",)


@pytest.mark.parametrize(
    ("metrics", "keys", "score"),
    [
        ({"score": 1}, [], 1.0),
        ({"score": True, "reward": 0.25}, [], 0.25),
        ({"score": "1", "reward": None}, [], None),
        ({"a": {"score": 0.5}}, ["a.score"], 0.5),
        ({"a.score": 0.75, "a": {"score": 0.5}}, ["a.score"], 0.75),
        ({"a": {"score": 0.5, "reward": 1}}, ["a.b", "a.reward", "a.score"], 1.0),
        ({"a": {"score": 0.5}}, [], None),
        ({"score": 10**400, "reward": 2}, [], 2.0),
        ({"score": math.nan, "reward": 2}, [], 2.0),
        ({"my_score": 1}, ["my_score"], None),
    ],
)
def test_the_first_finite_number_is_the_score(
    metrics: dict[str, Any], keys: list[str], score: float | None
) -> None:
    assert score_of(metrics, keys) == score


def test_texts_about_files_follow_the_stage() -> None:
    assert judging.outside_repo("evaluation", "x") == "evaluation.metrics_outside_repo: x"
    assert judging.file_missing("benchmark", "x") == "metrics_file_missing: x"
    assert judging.failed_to_read("evaluation", "why") == "evaluation.failed_to_read: why"


def test_an_integer_that_fits_keeps_its_digits() -> None:
    found = judged('{"n": 123456789012345678901234567890}')
    assert found.metrics == {"n": 123456789012345678901234567890}


@given(st.binary())
def test_any_bytes_are_judged(data: bytes) -> None:
    assert judged(data, "a").ok is False


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["ok", "score", "a", "b.c"]), inner),
)


@given(JSON, st.lists(st.sampled_from(["ok", "score", "a.score", "b.c", "a.b.c"])))
def test_any_document_is_judged_and_a_score_is_always_finite(document: object, keys: list[str]) -> None:
    found = judged(json.dumps(document), *keys)
    assert found.ok == (not found.errors)
    assert found.score is None or (found.ok and math.isfinite(found.score))
