"""Names: of one execution (`run_id`), of what is executed (`unit_id`), and the one byte form that both hash."""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

Problem = tuple[str, str, str]
"""`(code, field, message)`, as `SpecError` carries them."""

LAYERS = ("process", "filesystem", "network", "kernel", "policy", "agent")
SANDBOXES = ("docker", "bwrap", "host")
AGENTS = ("none", "opencode")
MAX_RUN_ID = 64

_RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SORTED = msgspec.json.Encoder(order="sorted")


def new_run_id(now: datetime, entropy: bytes) -> str:
    """`YYYYMMDDTHHMMSSZ-` and ten hex digits, from an aware `now` and five or more random bytes."""
    if len(entropy) < 5:
        raise ValueError("a run id needs five random bytes")
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{entropy[:5].hex()}"


def check_run_id(run_id: str) -> list[Problem]:
    """All that is wrong with a run id, which must be fit to name folders, cgroups and containers."""
    problems: list[Problem] = []
    if not run_id:
        return [("empty_run_id", "run_id", "a run id needs at least one character")]
    if ":" in run_id:
        problems.append(("run_id_colon", "run_id", "a colon separates the parts of policy strings"))
    if not _RUN_ID.fullmatch(run_id.replace(":", "_")):
        problems.append(("run_id_unsafe", "run_id", "letters, digits, _ and -, and no - at the start"))
    if len(run_id) > MAX_RUN_ID:
        problems.append(("run_id_too_long", "run_id", f"at most {MAX_RUN_ID} characters"))
    return problems


def unit_id(inputs: Mapping[str, Any]) -> str:
    """What is run, whenever and wherever it runs: equal inputs have equal ids."""
    return "u_" + hashlib.sha256(canonical_json(inputs)).hexdigest()[:32]


def canonical_json(obj: Any) -> bytes:
    """The one JSON form of a value: sorted keys, no spaces, UTF-8. ValueError for NaN and infinities.

    Lone surrogates, which stand for the bytes of odd file names, are written as `\\udcXX` escapes.
    """
    try:
        encoded = _SORTED.encode(obj)
    except UnicodeEncodeError:
        return _encode_surrogates(obj)
    if b"null" in encoded and _may_hold_nan(obj):  # written as null; the other encoder refuses
        json.dumps(msgspec.to_builtins(obj, str_keys=True), allow_nan=False)
    return encoded


def _may_hold_nan(obj: Any) -> bool:
    """False is certain: in MessagePack NaN and infinities begin so, and no text in UTF-8 looks like it."""
    try:
        packed = msgspec.msgpack.encode(obj)
    except OverflowError:  # a whole number of more than 64 bits, which JSON can hold
        return True
    return b"\xcb\x7f" in packed or b"\xcb\xff" in packed


def _encode_surrogates(obj: Any) -> bytes:
    plain = msgspec.to_builtins(obj, str_keys=True)
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")


class RunSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks to be run: a command or a pipeline, in which sandbox, seen by which layers."""

    run_id: str
    platform: str = "linux"
    agent: str = "none"
    command: tuple[str, ...] = ()
    pipeline: str | None = None
    env: Mapping[str, str] = msgspec.field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    """Names only; each must be a key of `env`."""
    cwd: str = "."
    timeout_s: float | None = None
    limits: Mapping[str, float | None] = msgspec.field(default_factory=dict)
    sandbox: str = "host"
    network: Literal["open", "model", "none"] = "open"
    observe: Mapping[str, Literal["off", "try", "require"]] = msgspec.field(default_factory=dict)
    retry_of: str | None = None
    evidence: str | None = None
    """Absolute path under which the run folder is made, when the caller chose one."""

    def problems(self) -> list[Problem]:
        """All problems at once, in a fixed order; an empty list means the spec can be run."""
        return [
            *self._command_problems(),
            *check_run_id(self.run_id),
            *self._choice_problems(),
            *self._limit_problems(),
            *self._env_problems(),
            *self._place_problems(),
        ]

    def _command_problems(self) -> Iterator[Problem]:
        has_command = bool(self.command and self.command[0])
        if has_command == (self.pipeline is not None):
            yield "empty_command", "command", "give a command or a pipeline, and not both"
        for index, word in enumerate(self.command):
            if "\0" in word:
                yield "command_nul", f"command[{index}]", "an argument cannot hold a NUL byte"

    def _choice_problems(self) -> Iterator[Problem]:
        if self.agent not in AGENTS:
            yield "unknown_agent", "agent", f"one of {', '.join(AGENTS)}"
        if self.sandbox not in SANDBOXES:
            yield "unknown_sandbox", "sandbox", f"one of {', '.join(SANDBOXES)}"
        for layer in self.observe:
            if layer not in LAYERS:
                yield "unknown_layer", f"observe.{layer}", f"one of {', '.join(LAYERS)}"

    def _limit_problems(self) -> Iterator[Problem]:
        fields = {
            "timeout_s": self.timeout_s,
            **{f"limits.{name}": value for name, value in self.limits.items()},
        }
        for field, value in fields.items():
            if value is not None and not (0 < value < math.inf):
                yield "bad_limit", field, "a limit is a positive, finite number"

    def _env_problems(self) -> Iterator[Problem]:
        for name, value in self.env.items():
            if not _ENV_NAME.fullmatch(name) or "\0" in value:
                yield (
                    "env_name_invalid",
                    f"env.{name}",
                    "a name of letters, digits and _, a value without NUL",
                )
        for name in self.secrets:
            if name not in self.env:
                yield "secret_unset", f"secrets.{name}", "the variable is not set"

    def _place_problems(self) -> Iterator[Problem]:
        if self.evidence is None:
            return
        place, cwd = posixpath.normpath(self.evidence), posixpath.normpath(self.cwd)
        if not posixpath.isabs(place):
            yield "evidence_place", "evidence", "the place of the evidence is an absolute path"
        elif cwd == place or cwd.startswith(place.rstrip("/") + "/"):
            yield "evidence_place", "evidence", "hiding this place would hide the working directory itself"
