"""Where a run's commands are to run, and why: a decision, before anything is started."""

from __future__ import annotations

import msgspec

from .contract.model import Mode, SandboxWishes
from .messages import SandboxKind
from .settings import LATER_SANDBOXES, SandboxChoice


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """The sandbox kind to use, or None with the reason why there is none."""

    kind: SandboxKind | None
    why: str
    warnings: tuple[str, ...] = ()


def place(mode: Mode, choice: SandboxChoice, *, remote: bool, allow_system: bool) -> Placement:
    """Choose. An operator's explicit choice beats what the contract's mode implies, in both directions.

    A contract that came from elsewhere may not put itself on this machine without consent.
    """
    if choice in LATER_SANDBOXES:
        return Placement(
            kind=None, why=f"this version of fsmrt has no {choice} sandbox yet; use --sandbox host"
        )
    if choice == "host":
        return Placement(kind="host", why="--sandbox host was given", warnings=_announced(mode))
    if mode == "safe":
        return Placement(kind=None, why=_NO_WALL)
    if remote and not allow_system:
        return Placement(
            kind=None,
            why="the contract is not yours and wants to run on this machine (security.mode: system); "
            "--allow-system lets it",
        )
    return Placement(kind="host", why="security.mode is system", warnings=_announced(mode))


def unenforced(kind: SandboxKind, wishes: SandboxWishes) -> tuple[str, ...]:
    """What the contract's `sandbox` section asks for and this place cannot give: said, never dropped."""
    if kind != "host":
        return ()
    untouched = SandboxWishes()
    asked = [name for name in wishes.__struct_fields__ if getattr(wishes, name) != getattr(untouched, name)]
    if not asked:
        return ()
    names = ", ".join(f"sandbox.{name}" for name in asked)
    return (f"not_enforced: {names}: a run on this machine has no container to hold to it",)


_NO_WALL = (
    "security.mode is safe, and this version of fsmrt has no container or bubblewrap sandbox to keep that promise. "
    "Three ways out: --sandbox host runs the commands on this machine, with no wall around them; "
    "FSMRT_SANDBOX=host says so for good; security.mode: system says it in the contract"
)


def _announced(mode: Mode) -> tuple[str, ...]:
    text = "commands run on this machine, with no wall around them"
    return (f"no_wall: {text}" + (" although security.mode is safe" if mode == "safe" else ""),)
