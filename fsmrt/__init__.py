"""Run any repository through the contract it owns, under one supervisor, and keep evidence anyone can check.

The rooms behind this door, from the ground up:

    words    errors, messages, verdict, states, plan, orders, contract/    values and rules; nothing waits
    hands    sandbox/, evidence/, repository, lease, limits, reaper        one kind of effect each
    actors   actors/                                                       an order in, a report out
    rooms    supervisor, openrun, session, cli/                            own lifetimes; nothing else does
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = (
    False  # type checkers go by the name; importing `typing` costs as much as parsing the arguments
)
if TYPE_CHECKING:
    from typing import Any

    from .contract.problems import Problem as Problem
    from .control import Control as Control
    from .errors import ContractError as ContractError
    from .errors import EvidenceError as EvidenceError
    from .errors import FsmrtError as FsmrtError
    from .errors import PlatformUnsupported as PlatformUnsupported
    from .errors import SandboxError as SandboxError
    from .errors import SpecError as SpecError
    from .evidence.events import Event as Event
    from .evidence.feed import Lagged as Lagged
    from .messages import RunResult as RunResult
    from .messages import StageReport as StageReport
    from .messages import TryReport as TryReport
    from .session import run as run
    from .settings import Settings as Settings
    from .verdict import Owner as Owner
    from .verdict import Reason as Reason

__version__ = "0.1.0"

_HOMES = {
    "ContractError": "errors",
    "Control": "control",
    "Event": "evidence.events",
    "EvidenceError": "errors",
    "FsmrtError": "errors",
    "Lagged": "evidence.feed",
    "Owner": "verdict",
    "PlatformUnsupported": "errors",
    "Problem": "contract.problems",
    "Reason": "verdict",
    "RunResult": "messages",
    "SandboxError": "errors",
    "Settings": "settings",
    "SpecError": "errors",
    "StageReport": "messages",
    "TryReport": "messages",
    "run": "session",
}

__all__ = tuple(_HOMES)


def __getattr__(name: str) -> Any:
    # `fsmrt --help` comes through this door too, and must not wait for an event loop and a YAML parser.
    if name not in _HOMES:
        raise AttributeError(f"module 'fsmrt' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
