from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmrt.evidence.identity import RunSpec, canonical_json, check_run_id, new_run_id, unit_id

RUN = "20250102T030405Z-00ff00ff00"
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def spec(**changes: Any) -> RunSpec:
    return RunSpec(**{"run_id": RUN, "command": ("true",), **changes})


def test_a_run_id_is_utc_and_random_digits() -> None:
    tokyo = timezone(timedelta(hours=9))
    assert new_run_id(datetime(2025, 1, 2, 12, 4, 5, tzinfo=tokyo), bytes.fromhex("00ff00ff00aa")) == RUN
    assert check_run_id(RUN) == []
    with pytest.raises(ValueError, match="five random bytes"):
        new_run_id(datetime.now(UTC), b"1234")


@pytest.mark.parametrize(
    ("run_id", "codes"),
    [
        ("", ["empty_run_id"]),
        ("a:b", ["run_id_colon"]),
        ("-a", ["run_id_unsafe"]),
        ("a/b", ["run_id_unsafe"]),
        ("a\n", ["run_id_unsafe"]),
        ("é", ["run_id_unsafe"]),
        ("a" * 65, ["run_id_too_long"]),
        (":/" + "a" * 64, ["run_id_colon", "run_id_unsafe", "run_id_too_long"]),
    ],
)
def test_what_is_wrong_with_a_run_id(run_id: str, codes: list[str]) -> None:
    assert [code for code, _, _ in check_run_id(run_id)] == codes


@given(plain)
def test_canonical_json_has_one_form(value: Any) -> None:
    encoded = canonical_json(value)
    assert json.loads(encoded) == value
    assert canonical_json(json.loads(encoded)) == encoded
    expected = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert json.loads(expected) == json.loads(encoded)


@pytest.mark.parametrize("value", [math.nan, {"a": [1, math.inf]}, [-math.inf, None], [2**70, -math.nan]])
def test_canonical_json_knows_no_nan(value: object) -> None:
    with pytest.raises(ValueError, match=r"NaN|not JSON compliant"):
        canonical_json(value)


def test_the_bytes_of_odd_names_survive_as_escapes() -> None:
    odd = b"caf\xe9 \xff".decode("utf-8", "surrogateescape")
    encoded = canonical_json({"path": odd, "a": "ü"})
    assert encoded == b'{"a":"\xc3\xbc","path":"caf\\udce9 \\udcff"}'
    assert json.loads(encoded)["path"] == odd


def test_a_unit_id_depends_on_its_inputs_alone() -> None:
    one = unit_id({"stages": ["tests"], "image": None})
    assert one == unit_id({"image": None, "stages": ["tests"]})
    assert one.startswith("u_")
    assert len(one) == 34
    assert one != unit_id({"stages": ["deploy"], "image": None})


def test_a_sound_spec_has_no_problems() -> None:
    assert (
        spec(env={"TOKEN": "x"}, secrets=("TOKEN",), timeout_s=1.5, observe={"kernel": "off"}).problems()
        == []
    )
    assert (
        spec(command=(), pipeline="pipeline.yml", cwd="/r", evidence="/r/.aider_fsm/artifacts").problems()
        == []
    )


def test_every_problem_of_a_spec_is_told_at_once_and_in_order() -> None:
    wrong = spec(
        run_id="-:" + "a" * 64,
        command=("", "\0"),
        agent="x",
        sandbox="y",
        observe={"z": "try"},
        timeout_s=0.0,
        limits={"memory": math.nan},
        env={"1A": "x", "OK": "\0"},
        secrets=("MISSING",),
        cwd="/repo/sub",
        evidence="/repo",
    )
    assert [(code, field) for code, field, _ in wrong.problems()] == [
        ("empty_command", "command"),
        ("command_nul", "command[1]"),
        ("run_id_colon", "run_id"),
        ("run_id_unsafe", "run_id"),
        ("run_id_too_long", "run_id"),
        ("unknown_agent", "agent"),
        ("unknown_sandbox", "sandbox"),
        ("unknown_layer", "observe.z"),
        ("bad_limit", "timeout_s"),
        ("bad_limit", "limits.memory"),
        ("env_name_invalid", "env.1A"),
        ("env_name_invalid", "env.OK"),
        ("secret_unset", "secrets.MISSING"),
        ("evidence_place", "evidence"),
    ]


@pytest.mark.parametrize("place", ["relative", "/repo", "/", "/repo/"])
def test_evidence_lies_neither_nowhere_nor_over_the_tree(place: str) -> None:
    codes = [code for code, _, _ in spec(cwd="/repo", evidence=place).problems()]
    assert codes == ["evidence_place"]


def test_command_and_pipeline_exclude_each_other() -> None:
    assert [code for code, _, _ in spec(pipeline="p").problems()] == ["empty_command"]
    assert [code for code, _, _ in spec(command=()).problems()] == ["empty_command"]
