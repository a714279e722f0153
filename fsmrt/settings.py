"""What the operator asks for: the caller of the library, or whoever typed the command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

SandboxChoice = Literal["auto", "docker", "bwrap", "host"]
ObserveLevel = Literal["off", "try", "require"]
RedactionMode = Literal["full", "shapes_only", "disabled_unsafe"]
Unattended = Literal["strict", "guided"]
EvalMode = Literal["smoke", "full"]

CORE_LAYERS = ("process", "filesystem", "network", "policy", "agent")
LAYERS = (*CORE_LAYERS, "kernel")
LATER_SANDBOXES = ("docker", "bwrap")
"""Kinds the contract reference knows and this version does not have yet."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an operator can set about a run. The defaults are those of the command line."""

    pipeline: str = "pipeline.yml"
    sandbox: SandboxChoice = "auto"
    allow_system: bool = False
    env: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Variables passed to every command, above the contract's own."""
    secrets: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Passed like `env`; their values never reach the record."""
    mode: EvalMode = "smoke"
    llm: str | None = None
    stages: tuple[str, ...] | None = None
    test_cmds: tuple[str, ...] | None = None
    timeout: float | None = None
    """Seconds for the whole run but its teardown."""
    artifacts: str | None = None
    """Folder in which the run folder is made; None leaves it to the contract."""
    output_bytes: int | None = None
    observe: Mapping[str, ObserveLevel] = msgspec.field(default_factory=dict)
    redaction: RedactionMode = "full"
    unattended: Unattended = "strict"
    state_dir: str | None = None
    environ: Mapping[str, str] = msgspec.field(default_factory=dict)
    """The caller's environment, from which the allow-list of the contract reference is taken."""

    def with_environ(self, environ: Mapping[str, str]) -> Settings:
        """The same wishes in the environment of this caller."""
        return msgspec.structs.replace(self, environ=environ)

    def problems(self) -> list[tuple[str, str, str]]:
        """Words that are none of the choices, as `SpecError` carries them."""
        chosen = {
            "sandbox": (self.sandbox, SandboxChoice),
            "mode": (self.mode, EvalMode),
            "redaction": (self.redaction, RedactionMode),
            "unattended": (self.unattended, Unattended),
            **{f"observe.{layer}": (level, ObserveLevel) for layer, level in self.observe.items()},
        }
        return [
            ("not_in_choices", field, f"{word!r} is none of {', '.join(get_args(choices))}")
            for field, (word, choices) in chosen.items()
            if word not in get_args(choices)
        ]

    def observes(self, layer: str) -> bool:
        """Whether this layer is to be looked at."""
        return self.observe.get(layer, "try" if layer in CORE_LAYERS else "off") != "off"

    @property
    def operator_env(self) -> dict[str, str]:
        """What the operator passes to every command."""
        return {**self.env, **self.secrets}
