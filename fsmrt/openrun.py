"""A run that is open: it holds a lease, a run folder and a sandbox, and gives all of them back.

Opened in the order in which they must be undone. Whatever happens between, the record is closed with a
verdict, every process is ended by the supervisor's closing part, and then folder and lease go, last the lease:
as long as anything could be left, something must say whose it is.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
from anyio import to_thread
from anyio.streams.memory import MemoryObjectSendStream

from . import __version__
from .actors.base import Address, start
from .actors.recorder import Recorder
from .actors.stage import reason_for
from .actors.tools import Tools, pretty
from .contract.environment import Llm, inherited, missing_variable_hint, missing_variables
from .contract.limits import effective_limits
from .contract.model import Pipeline
from .contract.rules import Guard
from .contract.secrets import secret_values, unredactable
from .contract_files import (
    ACTIONS,
    Contract,
    contract_paths,
    freeze,
    read_bootstrap_file,
    script_texts,
)
from .control import Control
from .errors import EvidenceError, EvidenceWriteFailed, SandboxError
from .evidence.events import Event
from .evidence.filesystem import may_be_credential
from .evidence.folder import RunFolder
from .evidence.health import Health
from .evidence.identity import canonical_json, unit_id
from .evidence.record import PLATFORM, RunRecord
from .evidence.redaction import Redactor, load_or_create_key
from .evidence.scratch import ScratchKeeper
from .evidence.treewatch import TreeWatch
from .lease import HeldLease, Lease, hold, this_process
from .limits import CLOSE_GRACE, cleanup
from .messages import (
    Checkpoint,
    KeptFile,
    LayerRecords,
    Note,
    Record,
    RunResult,
    StageOrder,
    StageReport,
    Target,
)
from .orders import RUNTIME_ENV, OrderBook, Surroundings, runtime_env_object
from .placement import Placement
from .repository import CONTRACT_DIR, Repository
from .result import Ending, answer, code_of, document, verdict
from .sandbox import BACKENDS, terminal
from .sandbox.base import Sandbox
from .settings import CORE_LAYERS, Settings
from .supervisor import Supervisor
from .verdict import Reason

ATTEMPT = "full_attempt_01"
HELPERS = str(Path(__file__).parent / "helpers")
_WATCHED = ("rollout", "evaluation")
"""Stages in front of which the contract is compared with what it was."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be run, checked and ready."""

    run_id: str
    repository: Repository
    contract: Contract
    pipeline: Pipeline
    settings: Settings
    stages: tuple[str, ...]
    llm: Llm | None

    @property
    def place(self) -> Path:
        """The folder in which the run folder is made."""
        if self.settings.artifacts is not None:
            return Path(self.settings.artifacts).expanduser().absolute()
        return self.repository.root / (self.pipeline.artifacts.out_dir or f"{CONTRACT_DIR}/artifacts")

    @property
    def run_dir(self) -> Path:
        """The run folder, which exists once the run has been opened."""
        return self.place / self.run_id


class Unopened(Exception):
    """The run could not be opened; nothing is left of the attempt."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class OpenRun:
    """One run, from its lease to its verdict."""

    def __init__(
        self,
        asked: Asked,
        placement: Placement,
        state: Path,
        control: Control,
        on_event: Callable[[Event], None] | None,
        sandbox: Sandbox | None = None,
    ) -> None:
        assert placement.kind is not None
        self._asked = asked
        self._placement = placement
        self._state = state
        self._control = control
        self._on_event = on_event
        self._began = time.monotonic()
        self._timings: dict[str, float] = {}
        self._warnings: list[str] = [*placement.warnings, *_remarks(asked.contract)]
        self._repository = asked.repository
        self._sandbox: Sandbox = sandbox or BACKENDS[placement.kind](asked.run_id)
        security = asked.pipeline.security
        self._guard = Guard(
            security.mode,
            security.allowlist,
            security.denylist,
            repo_root=str(self._repository.root),
            unattended=asked.settings.unattended,
        )
        self._inherited = inherited(asked.settings.environ)
        self._limits = self._effective_limits()

    async def perform(self) -> RunResult:
        """Open, supervise, close. Raises `Unopened`, or a cancellation once everything is undone."""
        with ExitStack() as held:
            lease = self._hold_lease()
            held.callback(lease.release)
            redactor = self._make_redactor()
            await self._survey(redactor)
            folder = self._make_folder()
            held.callback(folder.close)
            record = self._start_record(folder, redactor)
            held.callback(record.close)
            self._control.attach_feed(record.feed)
            result = await self._recorded(record, lease)
        return result  # noqa: RET504 -- an exit stack may swallow exceptions, so the block may not return

    async def _recorded(self, record: RunRecord, lease: HeldLease) -> RunResult:
        async with anyio.create_task_group() as group:
            recorder = self._recorder(record)
            address = start(group, recorder, shielded=True)
            try:
                result = await self._supervise(record, recorder, address, lease)
            finally:
                address.close()
        return result

    # Opening

    def _hold_lease(self) -> HeldLease:
        owner = this_process()
        lease = Lease(
            run_id=self._asked.run_id,
            boot_id=owner.boot_id,
            pid=owner.pid,
            start_time=owner.start_time,
            run_dir=str(self._asked.run_dir),
            repo=str(self._repository.root),
            created_at=_now(),
        )
        try:
            return hold(self._state, lease)
        except OSError as error:
            raise Unopened(
                Reason.PREFLIGHT_FAILED, f"the state folder {self._state} cannot be used: {error.strerror}"
            ) from error

    def _make_folder(self) -> RunFolder:
        if self._asked.settings.artifacts is None and not self._repository.inside(
            self._asked.place.resolve()
        ):
            raise Unopened(
                Reason.PREFLIGHT_FAILED,
                f"the evidence folder {self._asked.place} leads out of the repository",
            )
        try:
            return RunFolder.create(self._asked.place, self._asked.run_id)
        except EvidenceWriteFailed as error:
            reason = reason_for(error)
            reason = reason if reason is Reason.DISK_FULL else Reason.PREFLIGHT_FAILED
            raise Unopened(reason, f"no evidence can be kept: {error}") from error

    def _make_redactor(self) -> Redactor:
        settings, pipeline = self._asked.settings, self._asked.pipeline
        contract_env = {
            name: value
            for section in (
                pipeline.auth,
                pipeline.tests,
                pipeline.deploy,
                pipeline.rollout,
                pipeline.evaluation,
                pipeline.benchmark,
            )
            for name, value in section.env.items()
        }
        passed = {**self._inherited, **contract_env, **settings.operator_env}
        for name in unredactable(passed, settings.secrets):
            self._warnings.append(f"secret_too_short: {name} is too short to be found again in what is kept")
        return Redactor(
            secret_values(passed, settings.secrets),
            key=self._redaction_key(),
            mode=settings.redaction,
        )

    def _redaction_key(self) -> bytes:
        try:
            return load_or_create_key(self._state)
        except (EvidenceError, OSError) as error:
            raise Unopened(Reason.PREFLIGHT_FAILED, f"the redaction key cannot be used: {error}") from error

    async def _survey(self, redactor: Redactor) -> None:
        """What the target is, before anything of it runs."""
        self._tree = TreeWatch(
            self._repository.root,
            self._emit,
            enabled=self._asked.settings.observes("filesystem"),
            excludes=self._own_paths(),
            secrets_check=partial(_secret_key, redactor, load_or_create_key(self._state)),
        )
        await to_thread.run_sync(self._look_at_target)
        await self._tree.before_stage()

    def _look_at_target(self) -> None:
        self._git = self._repository.git_state()
        self._contract_paths = contract_paths(self._repository, self._asked.contract, self._guard)
        self._frozen = freeze(self._repository, self._contract_paths)

    def _own_paths(self) -> list[str]:
        """What we write inside the tree ourselves."""
        own = [f"{CONTRACT_DIR}/run.lock"]
        if self._repository.inside(self._asked.place):
            own.append(str(self._asked.place.relative_to(self._repository.root)))
        return own

    def _start_record(self, folder: RunFolder, redactor: Redactor) -> RunRecord:
        with ExitStack() as undo:
            try:
                record = RunRecord(folder, redactor, self._run_json())
                undo.callback(record.close)
                self._keep_contract(record)
            except EvidenceWriteFailed as error:
                raise Unopened(reason_for(error), str(error)) from error
            undo.pop_all()
        self._repository.protected = tuple(self._protected(folder.path))
        return record

    def _protected(self, run_dir: Path) -> Iterator[Path]:
        """What no action may write: the contract, and the evidence of this run and of earlier ones."""
        root, place = self._repository.root, self._asked.place.resolve()
        yield from (root / self._asked.contract.file, root / CONTRACT_DIR / "artifacts", run_dir.resolve())
        if place != root and self._repository.inside(place):
            yield place

    def _run_json(self) -> dict[str, Any]:
        asked, settings = self._asked, self._asked.settings
        inputs = self._unit_inputs()
        return {
            "schema": "fsmrt.run.v1",
            "run_id": asked.run_id,
            "unit_id": unit_id(inputs),
            "unit_inputs": inputs,
            "producer": f"fsmrt {__version__}",
            "platform": PLATFORM,
            "agent": "none",
            "pipeline": asked.contract.file,
            "target": self._target,
            "env_keys": sorted({*self._inherited, *settings.operator_env}),
            "secrets": sorted(settings.secrets),
            "stages": asked.stages,
            "timeout_s": settings.timeout,
            "limits": self._limits,
            "sandbox": {"kind": self._placement.kind, "why": self._placement.why},
            "sandbox_asked": settings.sandbox,
            "network": asked.pipeline.sandbox.network,
            "observe": {layer: settings.observe.get(layer, "try") for layer in CORE_LAYERS},
            "redaction": settings.redaction,
            "contract_files": self._frozen.digests,
            "boot_id": this_process().boot_id,
            "started_at": _now(),
        }

    def _unit_inputs(self) -> dict[str, Any]:
        settings = self._asked.settings
        return {
            "contract_hash": self._frozen.hash,
            "outcome_hash": None,
            "tree": self._tree.digest,
            "stages": self._asked.stages,
            "sandbox": self._placement.kind,
            "network": self._asked.pipeline.sandbox.network,
            "limits": self._limits,
            "env_sha256": hashlib.sha256(canonical_json(dict(settings.env))).hexdigest(),
            "secrets": sorted(settings.secrets),
            "mode": settings.mode,
            "llm": settings.llm,
            "test_cmds": settings.test_cmds,
            "image_digest": None,
            "protocol": 1,
        }

    def _effective_limits(self) -> dict[str, Any]:
        settings = self._asked.settings
        limits = effective_limits(self._asked.pipeline, {**settings.environ, **settings.operator_env})
        plain = msgspec.structs.asdict(limits)
        self._warnings += plain.pop("warnings")
        return {**plain, "output_bytes": settings.output_bytes}

    def _keep_contract(self, record: RunRecord) -> None:
        record.folder.makedirs(ATTEMPT)  # also a run that is stopped before its first stage has one
        for path in self._frozen.digests:
            record.folder.makedirs(str(Path("contract", path).parent))
            content = self._repository.contract_bytes(path)
            record.folder.write_new(
                f"contract/{path}", record.redactor.bytes(content, member=f"contract/{path}")
            )

    async def _start_sandbox(self, lease: HeldLease) -> bool:
        try:
            await self._sandbox.start()
        except SandboxError as error:
            self._control.stop(Reason.SANDBOX_START_FAILED, str(error))
            return False
        if self._sandbox.facts.cgroup is not None:
            lease.update(cgroup=self._sandbox.facts.cgroup)
        return True

    def _recorder(self, record: RunRecord) -> Recorder:
        def observe(event: Event) -> None:
            record.feed.publish(event)
            if self._on_event is not None:
                self._on_event(event)

        def alarm(error: EvidenceWriteFailed) -> None:
            self._control.stop(reason_for(error), str(error))

        return Recorder(
            record.folder,
            record.events,
            record.layers,
            record.redactor,
            kind=self._sandbox.facts.kind,
            isolation=self._sandbox.facts.isolation,
            alarm=alarm,
            observer=observe,
        )

    # The pass

    async def _supervise(
        self, record: RunRecord, recorder: Recorder, address: Address[Record, None], lease: HeldLease
    ) -> RunResult:
        self._address = address
        send, receive = anyio.create_memory_object_stream[StageReport](len(self._asked.stages) + 4)
        tools = self._tools(record, address, send)
        book = self._order_book(record)
        supervisor = Supervisor(
            book,
            tools,
            receive,
            self._control,
            self._asked.stages,
            self._deadline,
            before_stage=partial(self._before_stage, record.redactor),
        )
        with send, receive:
            try:
                if await self._start_sandbox(lease):
                    await self._begin(address)
                    await supervisor.perform()
            finally:
                with cleanup(2 * CLOSE_GRACE):
                    await self._sandbox.close(leave_running=supervisor.leaves_running)
                with cleanup():
                    self._warnings += await to_thread.run_sync(self._hints, supervisor.reports)
                result = self._answer(supervisor, record)
                with cleanup():
                    result = await self._write_end(result, supervisor, record, recorder)
        return result

    @property
    def _deadline(self) -> float | None:
        timeout = self._asked.settings.timeout
        return None if timeout is None else anyio.current_time() + timeout - (time.monotonic() - self._began)

    def _tools(
        self,
        record: RunRecord,
        address: Address[Record, None],
        reports: MemoryObjectSendStream[StageReport],
    ) -> Tools:
        return Tools(
            run_id=self._asked.run_id,
            sandbox=self._sandbox,
            repository=self._repository,
            folder=record.folder,
            redactor=record.redactor,
            guard=self._guard,
            tree=self._tree,
            scratch=ScratchKeeper(record.folder, record.redactor),
            recorder=address,
            reports=reports,
            now=_now,
        )

    def _order_book(self, record: RunRecord) -> OrderBook:
        asked = self._asked
        around = Surroundings(
            run_id=asked.run_id,
            repo_root=str(self._repository.root),
            run_dir=str(record.path),
            attempt=ATTEMPT,
            runner_root=HELPERS,
            python=sys.executable or None,
            inherited=self._inherited,
            new_nonce=lambda: secrets.token_hex(16),
            read_bootstrap=partial(read_bootstrap_file, self._repository),
            read_runtime_env=self._read_runtime_env,
            which=lambda name, path: shutil.which(name, path=path),
            run_deadline=self._deadline,
            has_terminal=terminal.available(),
        )
        return OrderBook(asked.pipeline, asked.contract.actions, asked.settings, asked.llm, around)

    def _read_runtime_env(self) -> Mapping[str, Any] | None:
        content = self._repository.read_output(RUNTIME_ENV)
        return runtime_env_object(content) if isinstance(content, bytes) else None

    async def _emit(self, records: LayerRecords) -> None:
        await self._address.tell(records)

    async def _begin(self, address: Address[Record, None]) -> None:
        settings, facts = self._asked.settings, self._sandbox.facts
        await address.tell(
            Note(
                type="run_started",
                data={
                    "agent": "none",
                    "pipeline": self._asked.contract.file,
                    "env_keys": sorted({*self._inherited, *settings.operator_env}),
                    "sandbox": facts.kind,
                    "containment": {"kind": facts.containment, "exact": facts.exact, "notes": facts.notes},
                    "network": self._asked.pipeline.sandbox.network,
                    "stages": self._asked.stages,
                },
            )
        )
        await address.tell(
            Note(
                type="contract_frozen",
                data={"hash": self._frozen.hash, "files": self._frozen.digests},
            )
        )
        self._timings["open_ms"] = self._elapsed_ms()

    async def _before_stage(self, redactor: Redactor, order: StageOrder) -> None:
        """What is looked at in front of a stage: new secrets to hide, and whether the contract still stands."""
        for name, value in secret_values(order.adds_env or {}, ()).items():
            redactor.add(name, value)
        if order.stage in _WATCHED and order.due:
            await self._watch_contract()

    async def _watch_contract(self) -> None:
        now = await to_thread.run_sync(freeze, self._repository, self._contract_paths)
        changed = [path for path in now.changed_since(self._frozen) if path != ACTIONS]
        if changed:
            self._warnings.append(f"contract_changed: {', '.join(changed)}")
            await self._address.tell(Note(type="contract_changed", data={"files": changed, "hash": now.hash}))

    # The end

    async def _write_end(
        self, result: RunResult, supervisor: Supervisor, record: RunRecord, recorder: Recorder
    ) -> RunResult:
        """Close the record. The answer is another one if that fails: a number nobody can look up is none."""
        failure = recorder.failure
        await self._keep(f"{ATTEMPT}/reaped.json", pretty({"processes": supervisor.ended}))
        if supervisor.defect is not None:
            await self._keep("runner_error.txt", supervisor.defect.encode())
        await self._keep("verdict.json", pretty(_verdict_file(result)), replace=True)
        await self._keep("health.json", pretty(self._health(record, recorder)))
        await self._address.ask(Checkpoint())
        if recorder.failure is not failure:
            failure, result = recorder.failure, self._answer(supervisor, record)
            await self._keep("verdict.json", pretty(_verdict_file(result)), replace=True)
        await self._address.tell(Note(type="run_finished", data=_finished(result)))
        await self._address.ask(Checkpoint(final=True))
        return result if recorder.failure is failure else self._answer(supervisor, record)

    async def _keep(self, path: str, data: bytes, *, replace: bool = False) -> None:
        await self._address.tell(KeptFile(path=path, data=data, replace=replace))

    def _answer(self, supervisor: Supervisor, record: RunRecord) -> RunResult:
        self._timings["stages_ms"] = round(sum(report.seconds for report in supervisor.reports) * 1000, 3)
        self._timings["total_ms"] = self._elapsed_ms()
        reports = [*supervisor.reports, *supervisor.closing_reports]
        ending = Ending(
            stop_reason=self._control.reason,
            stop_message=self._control.message,
            defect=supervisor.defect,
            interrupted=supervisor.interrupted,
        )
        conclusion = verdict(self._asked.pipeline, supervisor.reports, ending)
        return answer(
            run_id=self._asked.run_id,
            conclusion=conclusion,
            target=self._target,
            sandbox=self._sandbox.facts,
            reports=reports,
            warnings=[*self._warnings, *(text for report in reports for text in report.warnings)],
            ended=supervisor.ended,
            timings=self._timings,
            attempt_dir=record.path / ATTEMPT,
            run_dir=record.path,
            terminated=self._control.terminated,
        )

    @property
    def _target(self) -> Target:
        return Target(
            kind="path",
            path=str(self._repository.root),
            commit=self._git.commit,
            dirty=self._git.dirty,
        )

    def _hints(self, reports: Iterable[StageReport]) -> list[str]:
        """Variables that failed stages and their scripts mention, the caller has, and commands do not get."""
        asked = self._asked
        passed = {*self._inherited, *asked.settings.operator_env}
        hints = []
        for report in reports:
            if report.ok or report.stopped:
                continue
            commands = [command.cmd for command in report.commands]
            scripts = script_texts(self._repository, asked.pipeline, report.stage, commands, self._guard)
            text = "\n".join([*commands, *scripts])
            hints += [
                missing_variable_hint(name)
                for name in missing_variables(text, asked.settings.environ, passed)
            ]
        return hints

    def _health(self, record: RunRecord, recorder: Recorder) -> Health:
        facts, settings = self._sandbox.facts, self._asked.settings
        return record.health(
            filesystem=self._tree.health,
            observed={layer: settings.observes(layer) for layer in CORE_LAYERS},
            isolation=facts.isolation,
            notes=(
                f"containment: {facts.containment}, {'exact' if facts.exact else 'best effort'}",
                *(f"sandbox: {note}" for note in facts.notes),
            ),
            lost=recorder.lost,
        )

    def _elapsed_ms(self) -> float:
        return round((time.monotonic() - self._began) * 1000, 3)


def _remarks(contract: Contract) -> list[str]:
    """Problems that do not stop a run."""
    return [str(problem) for problem in contract.problems if problem.level != "error"]


def _secret_key(redactor: Redactor, key: bytes, path: str, content: bytes) -> bytes | None:
    """The key under which a file's digest is taken if it may hold a secret: a plain one could be guessed."""
    return key if may_be_credential(path) or redactor.bytes(content) != content else None


def _verdict_file(result: RunResult) -> dict[str, Any]:
    return {name: value for name, value in document(result).items() if name != "evidence"}


def _finished(result: RunResult) -> dict[str, Any]:
    return {
        "verdict": result.verdict,
        "ok": result.ok,
        "exit_code": code_of(result),
        "reason": result.reason,
        "failure": None if result.ok else result.message,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
