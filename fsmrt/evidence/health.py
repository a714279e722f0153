"""What each layer saw and lost, and what may therefore be claimed: nothing, until a collector proves it ran."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import msgspec

from .identity import LAYERS

SCHEMA = "fsmrt.health.v1"

Status = Literal["complete", "partial", "absent", "self_reported"]
Origin = Literal["own", "third_party", "unsupported"]
Correlation = Literal["not_used", "clean", "partial", "failed"]
Reason = Literal[
    "not_attempted",
    "not_requested",
    "not_linux",
    "unsupported_arch",
    "unsupported_kernel",
    "not_root",
    "no_cap_bpf",
    "no_tracefs",
    "no_cgroup2",
    "no_delegation",
    "container_runtime",
    "tool_missing",
    "load_failed",
    "attach_failed",
    "placement_failed",
    "ring_lost",
    "bad_record",
    "parse_error",
    "stream_closed",
    "drain_incomplete",
    "collector_crashed",
    "scan_limit",
    "scan_error",
    "concurrent_commands",
    "disabled_by_policy",
]
REASONS: frozenset[str] = frozenset(get_args(Reason))
BLIND_SPOTS = frozenset(
    {
        "io_uring",
        "mmap_write",
        "open_by_handle",
        "fd_passing",
        "compat_abi",
        "before_placement",
        "path_not_resident",
        "left_cgroup",
        "transient_files",
        "large_file_digest",
        "outside_tree",
        "descendants_not_listed",
        "no_cgroup_counters",
        "unix_sockets",
        "inherited_fds",
        "connected_datagrams",
        "host_network",
        "unmediated_actions",
        "self_report",
    }
)
GUARANTEES = frozenset(
    {
        "netns_private",
        "no_external_interface",
        "root_readonly",
        "pidns_private",
        "no_new_privs",
        "io_uring_blocked",
        "no_engine_socket",
    }
)
_NAMED_BLIND_SPOT = re.compile(r"(?:hook_missing|excluded):.+")
_NAMED_GUARANTEE = re.compile(r"writable_only:.+")
_NOTE = re.compile(r"([a-z][a-z0-9_]*): \S.*", re.DOTALL)


class LayerHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One layer's entry. The defaults claim nothing: nobody tried."""

    status: Status = "absent"
    backend: str = "none"
    records: int = 0
    lost: int = 0
    origin: Origin = "unsupported"
    reason: str | None = "not_attempted"
    blind_spots: tuple[str, ...] = ()
    counters: Mapping[str, int] = msgspec.field(default_factory=dict)


class Health(msgspec.Struct, frozen=True, kw_only=True):
    schema: str = SCHEMA
    run_id: str
    platform: str
    layers: Mapping[str, LayerHealth]
    correlation: Correlation = "not_used"
    guarantees: tuple[str, ...] = ()
    redaction: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def complete(backend: str, records: int, **more: Any) -> LayerHealth:
    """The entry of a layer of ours that saw everything there was to see."""
    return LayerHealth(status="complete", backend=backend, records=records, origin="own", reason=None, **more)


def clipped(backend: str, records: int, reason: Reason, *, lost: int = 0, **more: Any) -> LayerHealth:
    """The entry of a layer of ours that knows it missed something."""
    return LayerHealth(
        status="partial", backend=backend, records=records, origin="own", reason=reason, lost=lost, **more
    )


def absent(reason: Reason, **more: Any) -> LayerHealth:
    """The entry of a layer that did not look, and why."""
    return LayerHealth(reason=reason, **more)


def agent_health(accepted: int) -> LayerHealth:
    """The agent's own entry: nothing for starting it, and self-reported, never more, from its first record on."""
    if not accepted:
        return LayerHealth()
    return LayerHealth(
        status="self_reported",
        backend="agent_events",
        records=accepted,
        origin="third_party",
        reason=None,
        blind_spots=("self_report",),
    )


def health_document(
    run_id: str,
    platform: str,
    layers: Mapping[str, LayerHealth] | None = None,
    *,
    correlation: Correlation = "not_used",
    guarantees: Sequence[str] = (),
    redaction: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> Health:
    """The health of a run: layers nobody spoke for are absent, and of two notes with one code the later stays."""
    spoken_for = layers or {}
    return Health(
        run_id=run_id,
        platform=platform,
        layers={**{name: spoken_for.get(name, LayerHealth()) for name in LAYERS}, **spoken_for},
        correlation=correlation,
        guarantees=tuple(sorted(set(guarantees))),
        redaction=dict(redaction or {}),
        notes=tuple({note.partition(":")[0]: note for note in notes}.values()),
    )


def problems(health: Health) -> list[str]:
    """Every way in which a health document claims more than its own numbers allow; empty when it may stand."""
    found = [
        f"{name}: {text}" for name, layer in health.layers.items() for text in _layer_problems(name, layer)
    ]
    if health.schema != SCHEMA:
        found.append(f"schema: {health.schema!r} is not {SCHEMA!r}")
    found += [f"{name}: the layer has no entry" for name in LAYERS if name not in health.layers]
    found += [f"notes: not `code: text`: {note!r}" for note in health.notes if not _NOTE.fullmatch(note)]
    codes = [note.partition(":")[0] for note in health.notes]
    found += [
        f"notes: {code} stands twice" for code in sorted({code for code in codes if codes.count(code) > 1})
    ]
    found += [f"guarantees: unknown {name!r}" for name in health.guarantees if not _is_guarantee(name)]
    return found


def may_seal_success(health: Health) -> bool:
    """Whether a run with this health can be sealed as a success: its records must belong to its commands."""
    return health.correlation != "failed" and not problems(health)


def _layer_problems(name: str, layer: LayerHealth) -> Iterator[str]:
    if name not in LAYERS:
        yield "no such layer"
    yield from _status_problems(name, layer)
    if layer.records < 0 or layer.lost < 0:
        yield "a negative count"
    if layer.status in ("partial", "absent") and layer.reason is None:
        yield f"{layer.status} needs a reason"
    if layer.reason is not None and layer.reason not in REASONS:
        yield f"unknown reason {layer.reason!r}"
    for spot in layer.blind_spots:
        if spot not in BLIND_SPOTS and not _NAMED_BLIND_SPOT.fullmatch(spot):
            yield f"unknown blind spot {spot!r}"


def _status_problems(name: str, layer: LayerHealth) -> Iterator[str]:
    if layer.status == "complete" and layer.lost:
        yield "complete although records were lost"
    if layer.status in ("complete", "partial") and layer.backend == "none":
        yield f"{layer.status} without a backend"
    if layer.status == "complete" and layer.origin == "unsupported":
        yield "complete by a collector of no known origin"
    if layer.status == "absent" and layer.records:
        yield "absent although it has records"
    if (name == "agent") and layer.status not in ("self_reported", "absent"):
        yield "an agent's word is self_reported or absent, never observed"
    if (name != "agent") and layer.status == "self_reported":
        yield "only the agent reports itself"
    if layer.status == "self_reported" and not layer.records:
        yield "self_reported before its first record"


def _is_guarantee(name: str) -> bool:
    return name in GUARANTEES or _NAMED_GUARANTEE.fullmatch(name) is not None
