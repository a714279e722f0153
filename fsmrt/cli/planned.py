"""What a run would do, as a value: built from the very orders its stages would be given. Executes nothing."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from ..contract.environment import inherited
from ..contract.limits import SecurityLimits, declared_limits
from ..contract.rules import Guard
from ..contract.scripts import audit
from ..contract.secrets import secret_values, unredactable
from ..contract_files import read_bootstrap_file
from ..messages import PlannedCommand, StageOrder
from ..openrun import HELPERS
from ..orders import STAGES, OrderBook, Surroundings
from ..placement import Placement, unenforced
from ..repository import Repository
from ..request import Request, placement_of
from .options import Chosen

SCHEMA = "fsmrt.plan.v1"


class CommandPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One command, and what the rules say about it."""

    cmd: str
    refused: str | None
    scripts: tuple[str, ...] = ()
    """Files of the repository it executes, that are read before it may run."""
    remarks: tuple[str, ...] = ()
    retries: int = 0


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A limit and who set it; without a value there is none."""

    value: float | None
    source: str | None


class StagePlan(msgspec.Struct, frozen=True, kw_only=True):
    stage: str
    commands: tuple[CommandPlan, ...]
    workdir: str
    try_seconds: Limit
    stage_seconds: Limit
    env: tuple[str, ...]
    """Names that this stage sets, beside what all commands get."""
    expects: tuple[str, ...]
    """Files it is to write; older ones are moved aside."""
    problem: str | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    schema: str = SCHEMA
    target: str
    pipeline: str
    artifacts: str
    sandbox: Placement
    stages: tuple[StagePlan, ...]
    left_out: tuple[str, ...]
    """Stages of the pass that have no commands."""
    teardown_policy: str
    limits: Mapping[str, Limit]
    environment: Mapping[str, Sequence[str]]
    """Names only: `inherited`, `operator`, `secrets` (to be kept out of the evidence)."""
    options: Mapping[str, Chosen]
    mode: str
    llm: Any
    warnings: tuple[str, ...]


def planned_commands(request: Request) -> list[tuple[str, int]]:
    """Each stage that would run, teardown included, with the number of its commands."""
    return [(order.stage, len(order.commands)) for order in _orders(request, _order_book(request))]


def plan(request: Request, options: Mapping[str, Chosen]) -> Plan:
    """The whole plan."""
    book = _order_book(request)
    orders = _orders(request, book)
    guard = _guard(request)
    passed = {**inherited(request.settings.environ), **request.settings.operator_env}
    return Plan(
        target=str(request.repository.root),
        pipeline=request.contract.file,
        artifacts=str(request.place),
        sandbox=placement_of(request),
        stages=tuple(_stage(order, request, guard, book.limits) for order in orders),
        left_out=tuple(name for name in request.stages if name not in {order.stage for order in orders}),
        teardown_policy=book.teardown_policy,
        limits=_limits(book.limits, options),
        environment={
            "inherited": sorted(inherited(request.settings.environ)),
            "operator": sorted(request.settings.env),
            "secrets": sorted(secret_values(passed, request.settings.secrets)),
        },
        options=options,
        mode=request.settings.mode,
        llm=request.llm,
        warnings=(*_warnings(request, passed), *book.limits.warnings),
    )


def _warnings(request: Request, passed: Mapping[str, str]) -> Iterator[str]:
    placement = placement_of(request)
    yield from placement.warnings
    if placement.kind is not None:
        yield from unenforced(placement.kind, request.pipeline.sandbox)
    yield from (str(problem) for problem in request.contract.problems)
    for name in unredactable(passed, request.settings.secrets):
        yield f"secret_too_short: {name} is too short to be found again in what is kept"


def _limits(limits: SecurityLimits, options: Mapping[str, Chosen]) -> dict[str, Limit]:
    return {
        "max_cmd_seconds": Limit(value=limits.max_cmd_seconds, source=limits.max_cmd_source),
        "max_total_seconds": Limit(value=limits.max_total_seconds, source=limits.max_total_source),
        "run_timeout": _optional(options["timeout"]),
        "output_bytes": _optional(options["output_bytes"]),
    }


def _optional(chosen: Chosen) -> Limit:
    return Limit(value=chosen.value, source=None if chosen.value is None else chosen.source)


def _orders(request: Request, book: OrderBook) -> list[StageOrder]:
    forward = [book.order(stage, ()) for stage in request.stages]
    dump = book.kubectl_dump(())
    closing = [*([dump] if dump else []), book.teardown(())]
    if book.teardown_policy == "never":
        closing.pop()
    return [order for order in (*forward, *closing) if order.due]


def _order_book(request: Request) -> OrderBook:
    around = Surroundings(
        run_id=request.run_id,
        repo_root=str(request.repository.root),
        run_dir=str(request.run_dir),
        attempt="full_attempt_01",
        runner_root=HELPERS,
        python=sys.executable or None,
        inherited=inherited(request.settings.environ),
        new_nonce=lambda: "",
        read_bootstrap=partial(read_bootstrap_file, request.repository),
        read_runtime_env=lambda: None,
        which=lambda name, path: shutil.which(name, path=path),
    )
    return OrderBook(request.pipeline, request.contract.actions, request.settings, request.llm, around)


def _guard(request: Request) -> Guard:
    security = request.pipeline.security
    return Guard(
        security.mode,
        security.allowlist,
        security.denylist,
        repo_root=str(request.repository.root),
        unattended=request.settings.unattended,
    )


def _stage(order: StageOrder, request: Request, guard: Guard, limits: SecurityLimits) -> StagePlan:
    repository = request.repository
    workdir = repository.workdir(order.workdir)
    usable = isinstance(workdir, Path)
    start = workdir if isinstance(workdir, Path) else repository.root
    return StagePlan(
        stage=order.stage,
        commands=tuple(_command(one, order, start, guard, repository) for one in order.commands),
        workdir=str(start),
        try_seconds=_try_limit(order, request, limits),
        stage_seconds=Limit(
            value=order.limits.stage_seconds,
            source=limits.max_total_source if order.limits.stage_seconds is not None else None,
        ),
        env=tuple(sorted(_own_env(order, request))),
        expects=order.expects,
        problem=None if usable else workdir.message,  # type: ignore[union-attr]  # then it is a PathProblem
    )


def _command(
    planned: PlannedCommand, order: StageOrder, workdir: Path, guard: Guard, repository: Repository
) -> CommandPlan:
    refused = planned.fault
    found = None
    if order.guarded and planned.fault is None and planned.write is None:
        refused = guard.refusal(planned.text)
        found = audit(planned.text, workdir, guard=guard, read=repository.read_script)
        refused = refused or found.refusal
    return CommandPlan(
        cmd=planned.text,
        refused=refused,
        scripts=tuple(_relative(path, repository.root) for path in found.scripts) if found else (),
        remarks=found.remarks if found else (),
        retries=planned.retries,
    )


def _relative(path: str, root: Path) -> str:
    return str(Path(path).relative_to(root)) if Path(path).is_relative_to(root) else path


def _try_limit(order: StageOrder, request: Request, limits: SecurityLimits) -> Limit:
    seconds = order.limits.try_seconds
    if seconds is None:
        return Limit(value=None, source=None)
    if order.limits.try_limit == "timeout_seconds":
        return Limit(value=seconds, source=f"{order.stage.partition('_')[0]}.timeout_seconds")
    source = declared_limits(request.pipeline) if order.stage == "bootstrap" else limits
    return Limit(value=seconds, source=source.max_cmd_source)


def _own_env(order: StageOrder, request: Request) -> Mapping[str, str]:
    if order.stage == "bootstrap":
        return order.adds_env or {}
    return STAGES[order.stage].section(request.pipeline).env if order.stage in STAGES else {}
