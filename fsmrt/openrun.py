"""A run that is open: it holds a lease, a run folder and a sandbox, and gives all of them back.

Opened in the order in which they must be undone. Whatever happens between, the record is closed with a
verdict, every process is ended by the supervisor's closing part, and then folder and lease go, last the lease:
as long as anything could be left, something must say whose it is.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread
from anyio.streams.memory import MemoryObjectSendStream

from .actors.base import Address, start
from .actors.recorder import Recorder
from .actors.stage import reason_for
from .actors.tools import Tools, pretty
from .contract.environment import inherited
from .contract.limits import effective_limits
from .contract.rules import Guard
from .contract.secrets import secret_values
from .contract_files import (
    Contract,
    read_bootstrap_file,
)
from .control import Control
from .description import described, utc_now
from .errors import EvidenceWriteFailed, SandboxError
from .evidence.events import Event
from .evidence.filesystem import may_be_credential
from .evidence.health import Health
from .evidence.record import RunRecord
from .evidence.redaction import Redactor
from .evidence.scratch import ScratchKeeper
from .evidence.treewatch import TreeWatch
from .lease import HeldLease
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
)
from .opening import (
    ATTEMPT,
    hold_lease,
    make_folder,
    make_redactor,
    own_paths,
    redaction_key,
    start_record,
)
from .orders import RUNTIME_ENV, OrderBook, Surroundings, runtime_env_object
from .placement import Placement, unenforced
from .request import Request
from .result import Ending, answer, code_of, document, verdict
from .sandbox import BACKENDS, terminal
from .sandbox.base import Sandbox
from .settings import CORE_LAYERS
from .supervisor import Supervisor
from .survey import Survey
from .verdict import Reason

log = logging.getLogger("fsmrt")

HELPERS = str(Path(__file__).parent / "helpers")
_NOT_CLOSED = (
    Reason.RUNNER_ERROR,
    "evidence_write_failed: the record could not be closed in time; its disk does not answer",
)
_TRUE = frozenset({"1", "true", "yes", "y", "on"})
_WATCHED = ("rollout", "evaluation")
"""Stages in front of which the contract is compared with what it was."""


class OpenRun:
    """One run, from its lease to its verdict."""

    def __init__(
        self,
        request: Request,
        placement: Placement,
        state: Path,
        control: Control,
        on_event: Callable[[Event], None] | None,
        sandbox: Sandbox | None = None,
    ) -> None:
        assert placement.kind is not None
        self._request = request
        self._placement = placement
        self._state = state
        self._control = control
        self._on_event = on_event
        self._began = time.monotonic()
        self._timings: dict[str, float] = {}
        self._warnings: list[str] = [
            *placement.warnings,
            *unenforced(placement.kind, request.pipeline.sandbox),
            *_remarks(request.contract),
            *_unchecked(request),
        ]
        self._repository = request.repository
        self._sandbox: Sandbox = sandbox or BACKENDS[placement.kind](request.run_id)
        security = request.pipeline.security
        self._guard = Guard(
            security.mode,
            security.allowlist,
            security.denylist,
            repo_root=str(self._repository.root),
            unattended=request.settings.unattended,
        )
        self._inherited = inherited(request.settings.environ)
        self._warnings += self._limit_warnings()

    def remark(self, texts: Iterable[str]) -> None:
        """Something the result is to say, beside what the run finds out itself."""
        self._warnings += texts

    async def perform(self) -> RunResult:
        """Open, supervise, close. Raises `Unopened`, or a cancellation once everything is undone."""
        with ExitStack() as held:
            lease = hold_lease(self._request, self._state)
            held.callback(lease.release)
            redactor = make_redactor(self._request, self._inherited, self._state)
            self._warnings += redactor.warnings
            await self._look(redactor)
            folder = make_folder(self._request)
            held.callback(folder.close)
            files = self._survey.frozen.digests
            record = start_record(self._request, folder, redactor, self._description(), files)
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

    async def _look(self, redactor: Redactor) -> None:
        """What the target is, before anything of it runs."""
        self._tree = TreeWatch(
            self._repository.root,
            self._emit,
            enabled=self._request.settings.observes("filesystem"),
            excludes=own_paths(self._request),
            secrets_check=partial(_secret_key, redactor, redaction_key(self._state)),
        )
        self._survey = await to_thread.run_sync(Survey, self._repository, self._request.contract, self._guard)
        await self._tree.before_stage()

    def _description(self) -> dict[str, Any]:
        return described(
            self._request,
            self._placement,
            frozen=self._survey.frozen,
            tree=self._tree.digest,
            target=self._survey.target,
            env_keys=self._env_keys,
        )

    @property
    def _env_keys(self) -> list[str]:
        return sorted({*self._inherited, *self._request.settings.operator_env})

    def _limit_warnings(self) -> tuple[str, ...]:
        settings = self._request.settings
        return effective_limits(
            self._request.pipeline, {**settings.environ, **settings.operator_env}
        ).warnings

    def _show(self, event: Event) -> None:
        """Call the caller's observer; one that fails is let go, since a run does not end by who watches it."""
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception as error:
            self._on_event = None
            log.exception("on_event failed; it is not called again in run %s", self._request.run_id)
            self._warnings.append(
                f"on_event_failed: {type(error).__name__}: {error}; it was not called again"
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
            self._show(event)

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
        send, receive = anyio.create_memory_object_stream[StageReport](len(self._request.stages) + 4)
        tools = self._tools(record, address, send)
        book = self._order_book(record)
        supervisor = Supervisor(
            book,
            tools,
            receive,
            self._control,
            self._request.stages,
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
                    supervisor.ended += await self._sandbox.close(leave_running=supervisor.leaves_running)
                with cleanup():
                    self._warnings += await to_thread.run_sync(
                        self._survey.hints,
                        supervisor.reports,
                        self._request.settings.environ,
                        self._env_keys,
                    )
                result = self._answer(supervisor, record)
                with cleanup() as closing:
                    result = await self._write_end(result, supervisor, record, recorder)
                if closing.cancelled_caught:
                    self._control.stop(*_NOT_CLOSED)
                    result = self._answer(supervisor, record)
        return result

    @property
    def _deadline(self) -> float | None:
        timeout = self._request.settings.timeout
        return None if timeout is None else anyio.current_time() + timeout - (time.monotonic() - self._began)

    def _tools(
        self,
        record: RunRecord,
        address: Address[Record, None],
        reports: MemoryObjectSendStream[StageReport],
    ) -> Tools:
        return Tools(
            run_id=self._request.run_id,
            sandbox=self._sandbox,
            repository=self._repository,
            folder=record.folder,
            redactor=record.redactor,
            guard=self._guard,
            tree=self._tree,
            scratch=ScratchKeeper(record.folder, record.redactor),
            recorder=address,
            reports=reports,
            now=utc_now,
        )

    def _order_book(self, record: RunRecord) -> OrderBook:
        request = self._request
        around = Surroundings(
            run_id=request.run_id,
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
        return OrderBook(request.pipeline, request.contract.actions, request.settings, request.llm, around)

    def _read_runtime_env(self) -> Mapping[str, Any] | None:
        content = self._repository.read_output(RUNTIME_ENV)
        return runtime_env_object(content) if isinstance(content, bytes) else None

    async def _emit(self, records: LayerRecords) -> None:
        await self._address.tell(records)

    async def _begin(self, address: Address[Record, None]) -> None:
        facts = self._sandbox.facts
        await address.tell(
            Note(
                type="run_started",
                data={
                    "agent": "none",
                    "pipeline": self._request.contract.file,
                    "env_keys": self._env_keys,
                    "sandbox": facts.kind,
                    "containment": {"kind": facts.containment, "exact": facts.exact, "notes": facts.notes},
                    "network": self._request.pipeline.sandbox.network,
                    "stages": self._request.stages,
                },
            )
        )
        await address.tell(
            Note(
                type="contract_frozen",
                data={"hash": self._survey.frozen.hash, "files": self._survey.frozen.digests},
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
        changed, now = await to_thread.run_sync(self._survey.changed)
        if changed:
            self._warnings.append(f"contract_changed: {', '.join(changed)}")
            await self._address.tell(Note(type="contract_changed", data={"files": changed, "hash": now}))

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
        told = {
            problem.code for problem in self._request.contract.problems
        }  # with their places, by `_remarks`
        conclusion = verdict(self._request.pipeline, supervisor.reports, ending)
        return answer(
            run_id=self._request.run_id,
            conclusion=conclusion,
            target=self._survey.target,
            sandbox=self._sandbox.facts,
            reports=reports,
            warnings=[
                *self._warnings,
                *(text for report in reports for text in report.warnings if text not in told),
            ],
            ended=supervisor.ended,
            timings=self._timings,
            attempt_dir=record.path / ATTEMPT,
            run_dir=record.path,
            terminated=self._control.terminated,
        )

    def _health(self, record: RunRecord, recorder: Recorder) -> Health:
        facts, settings = self._sandbox.facts, self._request.settings
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


def _unchecked(request: Request) -> Iterator[str]:
    """What a contract demands and this version cannot check: said, for nobody should take it for granted."""
    wanted = {**request.pipeline.evaluation.env, **request.settings.operator_env}
    if wanted.get("AIDER_FSM_REQUIRE_HINTS", "").strip().lower() in _TRUE:
        yield "hints_not_checked: AIDER_FSM_REQUIRE_HINTS is set, and this version does not know hints"


def _secret_key(redactor: Redactor, key: bytes, path: str, content: bytes) -> bytes | None:
    """The key under which a file's digest is taken if it may hold a secret: a plain one could be guessed."""
    return key if may_be_credential(path) or redactor.bytes(content) != content else None


def _verdict_file(result: RunResult) -> dict[str, Any]:
    return {name: value for name, value in document(result).items() if name != "evidence"}


def _finished(result: RunResult) -> dict[str, Any]:
    return {
        "verdict": result.verdict,
        "ok": result.ok,
        "reward": result.reward,
        "exit_code": code_of(result),
        "reason": result.reason,
        "failure": None if result.ok else result.message,
    }
