"""The steps by which a run is opened. Each gives what it promises, or raises `Unopened` and leaves nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .actors.stage import reason_for
from .contract.secrets import secret_values, unredactable
from .description import utc_now
from .errors import EvidenceError, EvidenceWriteFailed
from .evidence.folder import RunFolder
from .evidence.record import RunRecord
from .evidence.redaction import Redactor, load_or_create_key
from .lease import HeldLease, Lease, hold, this_process
from .repository import CONTRACT_DIR
from .request import Request
from .verdict import Reason

ATTEMPT = "full_attempt_01"
"""Folder of the one pass of a run."""


class Unopened(Exception):
    """The run could not be opened; nothing is left of the attempt."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def hold_lease(request: Request, state: Path) -> HeldLease:
    """Say whose everything is, before there is anything."""
    owner = this_process()
    lease = Lease(
        run_id=request.run_id,
        boot_id=owner.boot_id,
        pid=owner.pid,
        start_time=owner.start_time,
        run_dir=str(request.run_dir),
        repo=str(request.repository.root),
        created_at=utc_now(),
    )
    try:
        return hold(state, lease)
    except OSError as error:
        raise Unopened(
            Reason.PREFLIGHT_FAILED, f"the state folder {state} cannot be used: {error.strerror}"
        ) from error


def make_folder(request: Request) -> RunFolder:
    """The run folder, made for this run alone."""
    if request.settings.artifacts is None and not request.repository.inside(request.place.resolve()):
        raise Unopened(
            Reason.PREFLIGHT_FAILED,
            f"the evidence folder {request.place} leads out of the repository",
        )
    try:
        return RunFolder.create(request.place, request.run_id)
    except EvidenceWriteFailed as error:
        reason = reason_for(error)
        reason = reason if reason is Reason.DISK_FULL else Reason.PREFLIGHT_FAILED
        raise Unopened(reason, f"no evidence can be kept: {error}") from error


def make_redactor(request: Request, inherited: Mapping[str, str], state: Path) -> Redactor:
    """What hides the secrets among everything commands are passed. Its notes name those it cannot hide."""
    settings, pipeline = request.settings, request.pipeline
    sections = (
        pipeline.auth,
        pipeline.tests,
        pipeline.deploy,
        pipeline.rollout,
        pipeline.evaluation,
        pipeline.benchmark,
    )
    declared = {name: value for section in sections for name, value in section.env.items()}
    passed = {**inherited, **declared, **settings.operator_env}
    redactor = Redactor(
        secret_values(passed, settings.secrets), key=redaction_key(state), mode=settings.redaction
    )
    for name in unredactable(passed, settings.secrets):
        redactor.note_too_short(name)
    return redactor


def redaction_key(state: Path) -> bytes:
    """The key of this user under which equal secrets get equal placeholders."""
    try:
        return load_or_create_key(state)
    except (EvidenceError, OSError) as error:
        raise Unopened(Reason.PREFLIGHT_FAILED, f"the redaction key cannot be used: {error}") from error


def own_paths(request: Request) -> list[str]:
    """What we write inside the tree ourselves."""
    own = [f"{CONTRACT_DIR}/run.lock"]
    if request.repository.inside(request.place):
        own.append(str(request.place.relative_to(request.repository.root)))
    return own


def start_record(
    request: Request, folder: RunFolder, redactor: Redactor, description: dict[str, Any], files: Iterable[str]
) -> RunRecord:
    """`run.json`, the contract as read, the folder of the pass; from here on events can be told."""
    with ExitStack() as undo:
        try:
            record = RunRecord(folder, redactor, description)
            undo.callback(record.close)
            _keep_contract(request, record, files)
        except EvidenceWriteFailed as error:
            raise Unopened(reason_for(error), str(error)) from error
        undo.pop_all()
    request.repository.protected = tuple(_protected(request, folder.path))
    return record


def _protected(request: Request, run_dir: Path) -> Iterator[Path]:
    """What no action may write: the contract, and the evidence of this run and of earlier ones."""
    root, place = request.repository.root, request.place.resolve()
    yield from (root / request.contract.file, root / CONTRACT_DIR / "artifacts", run_dir.resolve())
    if place != root and request.repository.inside(place):
        yield place


def _keep_contract(request: Request, record: RunRecord, files: Iterable[str]) -> None:
    record.folder.makedirs(ATTEMPT)  # also a run that is stopped before its first stage has one
    for path in files:
        record.folder.makedirs(str(Path("contract", path).parent))
        content = request.repository.contract_bytes(path)
        record.folder.write_new(f"contract/{path}", record.redactor.bytes(content, member=f"contract/{path}"))
