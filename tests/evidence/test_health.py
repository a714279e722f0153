from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fsmrt.evidence.health import (
    Health,
    LayerHealth,
    absent,
    agent_health,
    clipped,
    complete,
    health_document,
    may_seal_success,
    problems,
)
from fsmrt.evidence.identity import LAYERS


def document(**layers: LayerHealth) -> Health:
    return health_document("r1", "linux", layers)


def test_fresh_health_claims_nothing() -> None:
    fresh = health_document("r1", "linux")
    assert set(fresh.layers) == set(LAYERS)
    for layer in fresh.layers.values():
        assert (layer.status, layer.backend, layer.reason, layer.records) == (
            "absent",
            "none",
            "not_attempted",
            0,
        )
    assert fresh.guarantees == ()
    assert problems(fresh) == []


def test_what_may_be_said() -> None:
    said = document(
        process=complete("wait4", 3, blind_spots=("descendants_not_listed", "no_cgroup_counters")),
        filesystem=clipped("snapshot", 5, "scan_limit", blind_spots=("excluded:.git/objects",)),
        kernel=absent("not_requested"),
        agent=agent_health(2),
    )
    assert problems(said) == []
    assert msgspec.json.decode(msgspec.json.encode(said), type=Health) == said
    assert agent_health(0) == LayerHealth()


@pytest.mark.parametrize(
    ("layer", "changes", "words"),
    [
        ("process", {"lost": 1}, "complete although records were lost"),
        ("process", {"backend": "none"}, "complete without a backend"),
        ("process", {"origin": "unsupported"}, "no known origin"),
        ("process", {"status": "partial"}, "partial needs a reason"),
        ("process", {"status": "absent"}, "absent needs a reason"),
        ("process", {"status": "absent", "reason": "not_root"}, "absent although it has records"),
        ("process", {"reason": "bored"}, "unknown reason"),
        ("process", {"records": -1}, "negative"),
        ("process", {"blind_spots": ("everything",)}, "unknown blind spot"),
        ("process", {"blind_spots": ("excluded:",)}, "unknown blind spot"),
        ("process", {"status": "self_reported"}, "only the agent"),
        ("agent", {}, "never observed"),
        ("agent", {"status": "self_reported", "records": 0}, "before its first record"),
        ("weather", {}, "no such layer"),
    ],
)
def test_what_claims_too_much_is_told(layer: str, changes: dict[str, Any], words: str) -> None:
    said = msgspec.structs.replace(complete("wait4", 1), **changes)
    assert any(
        problem.startswith(f"{layer}: ") and words in problem
        for problem in problems(document(**{layer: said}))
    )


def test_the_document_itself_is_checked() -> None:
    fresh = health_document("r1", "linux", notes=("ok_note: fine",), guarantees=("writable_only:/scratch",))
    assert problems(fresh) == []
    missing = msgspec.structs.replace(fresh, layers={})
    assert len(problems(missing)) == len(LAYERS)
    assert problems(msgspec.structs.replace(fresh, schema="fsmrt.health.v2"))
    assert problems(msgspec.structs.replace(fresh, guarantees=("unbreakable",)))
    assert problems(msgspec.structs.replace(fresh, notes=("no code",)))
    assert problems(msgspec.structs.replace(fresh, notes=("a: 1", "a: 2")))


def test_a_later_note_takes_the_place_of_an_earlier_one() -> None:
    notes = ("drain: 1 left", "scan: slow", "drain: none left")
    assert health_document("r1", "linux", notes=notes).notes == ("drain: none left", "scan: slow")


def test_failed_correlation_is_no_success() -> None:
    assert may_seal_success(health_document("r1", "linux", correlation="partial"))
    assert not may_seal_success(health_document("r1", "linux", correlation="failed"))
    assert not may_seal_success(document(process=complete("none", 0)))
