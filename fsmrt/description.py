"""What `run.json` says: the accepted request, what identifies it, and where it is to run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from . import __version__
from .contract.limits import effective_limits
from .contract.secrets import is_secret_name
from .contract_files import FrozenContract
from .evidence.identity import canonical_json, unit_id
from .evidence.record import PLATFORM
from .lease import this_process
from .messages import Target
from .placement import Placement
from .request import Request
from .settings import CORE_LAYERS


def described(
    request: Request,
    placement: Placement,
    *,
    frozen: FrozenContract,
    tree: str | None,
    target: Target,
    env_keys: list[str],
) -> dict[str, Any]:
    """`fsmrt.run.v1`. Values of the environment are not in it, only names."""
    settings = request.settings
    limits = limits_of(request)
    inputs = _unit_inputs(request, placement, limits, contract_hash=frozen.hash, tree=tree)
    return {
        "schema": "fsmrt.run.v1",
        "run_id": request.run_id,
        "unit_id": unit_id(inputs),
        "unit_inputs": inputs,
        "producer": f"fsmrt {__version__}",
        "platform": PLATFORM,
        "agent": "none",
        "pipeline": request.contract.file,
        "target": target,
        "env_keys": env_keys,
        "secrets": sorted(settings.secrets),
        "stages": request.stages,
        "timeout_s": settings.timeout,
        "limits": limits,
        "sandbox": {"kind": placement.kind, "why": placement.why},
        "sandbox_asked": settings.sandbox,
        "network": request.pipeline.sandbox.network,
        "observe": {layer: settings.observe.get(layer, "try") for layer in CORE_LAYERS},
        "redaction": settings.redaction,
        "contract_files": frozen.digests,
        "boot_id": this_process().boot_id,
        "started_at": utc_now(),
    }


def _unit_inputs(
    request: Request,
    placement: Placement,
    limits: Mapping[str, Any],
    *,
    contract_hash: str,
    tree: str | None,
) -> dict[str, Any]:
    """What decides what happens, and nothing that differs between two runs of the same."""
    settings = request.settings
    return {
        "contract_hash": contract_hash,
        "outcome_hash": None,
        "tree": tree,
        "stages": request.stages,
        "sandbox": placement.kind,
        "network": request.pipeline.sandbox.network,
        "limits": limits,
        "env_sha256": hashlib.sha256(canonical_json(_plain(settings.env))).hexdigest(),
        "secrets": sorted({*settings.secrets, *filter(is_secret_name, settings.env)}),
        "mode": settings.mode,
        "llm": settings.llm,
        "test_cmds": settings.test_cmds,
        "image_digest": None,
        "protocol": 1,
    }


def _plain(env: Mapping[str, str]) -> dict[str, str]:
    """What is no secret by its name either: from the digest of a short secret its value could be guessed."""
    return {name: value for name, value in env.items() if not is_secret_name(name)}


def limits_of(request: Request) -> dict[str, Any]:
    """The limits in force, each with the place that set it."""
    settings = request.settings
    limits = effective_limits(request.pipeline, {**settings.environ, **settings.operator_env})
    plain = {name: value for name, value in msgspec.structs.asdict(limits).items() if name != "warnings"}
    return {**plain, "output_bytes": settings.output_bytes}


def utc_now() -> str:
    """The wall clock, for people: nothing is ever joined by it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
