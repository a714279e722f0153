"""Every exception a user of fsmrt can meet.

    FsmrtError
    +-- ContractError (ValueError)     the repository's contract cannot be read; carries every problem
    +-- SpecError (ValueError)         the caller asked for something impossible; carries every problem
    +-- PlatformUnsupported            this operating system cannot run fsmrt
    +-- IllegalTransition              a state machine was asked for a step its table does not have: our bug
    +-- SandboxError
    |   +-- SpawnFailed                the program could not be started at all
    |   +-- SandboxLost                the place where commands run is gone, or can no longer be trusted
    +-- EvidenceError
        +-- EvidenceWriteFailed        the record could not be written: disk full, or an I/O error
        +-- ObservationRequired        a layer the caller required cannot be observed here

A failing command, a refusal, a limit or a dead container is none of these: those are reports with a reason
(`fsmrt.verdict`). Exceptions are for wrong use of the API and for bugs; the hands raise the sandbox and
evidence ones, and the supervisor turns them into reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .contract.problems import Problem


class FsmrtError(Exception):
    """The root: `except FsmrtError` catches everything fsmrt raises on purpose."""


class ContractError(FsmrtError, ValueError):
    """A contract file has problems that stop everything before any command.

    Raised before an evidence folder or a process exists. `problems` holds all of them, in file order.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class SpecError(FsmrtError, ValueError):
    """What the caller asked for cannot be: `problems` lists every `(code, field, message)` at once."""

    def __init__(self, problems: Sequence[tuple[str, str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{field}: {message} ({code})" for code, field, message in self.problems))


class PlatformUnsupported(FsmrtError):
    """fsmrt runs on Linux; elsewhere it says so instead of half working."""


class IllegalTransition(FsmrtError):
    """A state machine was asked for a step its table does not have. Always a defect of fsmrt."""


class SandboxError(FsmrtError):
    """The sandbox failed; nothing is said about the command (contrast: a command's exit code)."""


class SpawnFailed(SandboxError):
    """A program could not be started: it, its interpreter or its working directory is missing."""

    def __init__(self, program: str, error: OSError) -> None:
        super().__init__(f"cannot start {program}: {error.strerror or error}")
        self.program, self.errno = program, error.errno


class SandboxLost(SandboxError):
    """The place where commands run is gone, or processes in it could not be ended."""


class EvidenceError(FsmrtError):
    """The record of a run, not the run itself."""


class EvidenceWriteFailed(EvidenceError):
    """A file of the record could not be written; the run ends, because an unrecorded run proves nothing."""

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__(f"evidence_write_failed: {path}: {error.strerror or error}")
        self.path, self.errno = path, error.errno


class ObservationRequired(EvidenceError):
    """`observe` said `require` for a layer that cannot be observed here."""

    def __init__(self, layer: str, reason: str) -> None:
        super().__init__(f"observation of the {layer} layer is required, but it is not available: {reason}")
        self.layer, self.reason = layer, reason
