"""What each stage is told: its commands, environment, limits and the files expected of it.

`STAGES` is the table; `OrderBook` combines it with one run's contract, settings and identity. Building an
order changes nothing; what depends on the moment (a nonce, files on disk, the run so far) is handed in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from .contract.actions import COMMAND_KINDS
from .contract.environment import (
    Llm,
    SessionValues,
    after_deploy,
    bootstrap_env,
    forced,
    session_values,
    stage_env,
)
from .contract.limits import declared_limits, effective_limits, try_seconds
from .contract.model import Action, Actions, Bootstrap, Evaluation, Pipeline, Section, TeardownPolicy
from .contract.reading import Reading
from .messages import (
    ChildrenLive,
    FileToWrite,
    PlannedCommand,
    StageLimits,
    StageOrder,
    StageReport,
)
from .plan import TEARDOWN
from .settings import Settings

RUNTIME_ENV = ".aider_fsm/runtime_env.json"
ROLLOUT_JSON = ".aider_fsm/rollout.json"
HINT_FILES = (".aider_fsm/hints_used.json", ".aider_fsm/hints_run.json")


class StageSpec(msgspec.Struct, frozen=True):
    """What the contract says about one stage, and how it is performed."""

    section: Callable[[Pipeline], Section]
    commands: Callable[[Pipeline], tuple[str, ...]]
    children: ChildrenLive = "run"
    scratch: str | None = None
    """Name of the scratch folder; None for the stage's own."""
    retries: bool = True
    session: bool = True
    """Whether the values of the session are added to its environment."""


STAGES: Mapping[str, StageSpec] = {
    "auth": StageSpec(lambda p: p.auth, lambda p: p.auth.cmds, session=False),
    "tests": StageSpec(lambda p: p.tests, lambda p: p.tests.cmds, children="stage", session=False),
    "deploy_setup": StageSpec(lambda p: p.deploy, lambda p: p.deploy.setup_cmds, scratch="deploy"),
    "deploy_health": StageSpec(lambda p: p.deploy, lambda p: p.deploy.health_cmds, scratch="deploy"),
    "rollout": StageSpec(lambda p: p.rollout, lambda p: p.rollout.run_cmds),
    "evaluation": StageSpec(lambda p: p.evaluation, lambda p: p.evaluation.run_cmds, children="stage"),
    "benchmark": StageSpec(lambda p: p.benchmark, lambda p: p.benchmark.run_cmds, children="stage"),
    "deploy_teardown": StageSpec(
        lambda p: p.deploy, lambda p: p.deploy.teardown_cmds, scratch="deploy", retries=False
    ),
}
"""The stages of a contract; `actions` and `bootstrap` have files of their own."""

TEARDOWN_SECONDS = 600
"""Bound of a teardown whose contract sets no limit."""

_KUBECTL_QUESTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("kubectl_get_nodes", ("get", "nodes", "-o", "wide")),
    ("kubectl_get_namespaces", ("get", "namespaces")),
    ("kubectl_get_pods", ("get", "pods", "-A", "-o", "wide")),
    ("kubectl_get_all", ("get", "all", "-A", "-o", "wide")),
    ("kubectl_get_events", ("get", "events", "-A", "--sort-by=.metadata.creationTimestamp")),
)


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What an order depends on besides the contract: injected, so that building it touches nothing."""

    run_id: str
    repo_root: str
    run_dir: str
    attempt: str
    runner_root: str
    python: str | None
    inherited: Mapping[str, str]
    new_nonce: Callable[[], str]
    read_bootstrap: Callable[[], Reading[Bootstrap] | None]
    """Read again when its turn comes: an action may have written it."""
    read_runtime_env: Callable[[], Mapping[str, Any] | None]
    which: Callable[[str, str], str | None]
    run_deadline: float | None = None
    has_terminal: bool = False


class OrderBook:
    """Builds the orders of one pass."""

    def __init__(
        self,
        pipeline: Pipeline,
        actions: Reading[Actions] | None,
        settings: Settings,
        llm: Llm | None,
        around: Surroundings,
    ) -> None:
        self._pipeline = pipeline
        self._actions = actions
        self._settings = settings
        self._llm = llm
        self._around = around
        self._session = session_values(
            mode=settings.mode, llm=llm, overrides=settings.operator_env, environ=settings.environ
        )
        self.limits = effective_limits(pipeline, {**settings.environ, **settings.operator_env})

    @property
    def teardown_policy(self) -> TeardownPolicy:
        return self._pipeline.deploy.teardown_policy

    @property
    def teardown_seconds(self) -> int:
        """How long teardown may take in all: never without a bound, also where the contract sets none."""
        return self.limits.max_total_seconds or TEARDOWN_SECONDS

    def order(self, stage: str, so_far: Sequence[StageReport]) -> StageOrder:
        """The order for one stage of the forward part, given the reports of those before it."""
        if stage == "actions":
            return self._actions_order()
        if stage == "bootstrap":
            return self._bootstrap_order()
        return self._contract_order(stage, so_far, run_deadline=self._around.run_deadline)

    def teardown(self, so_far: Sequence[StageReport]) -> StageOrder:
        """Teardown is not bound by the run's deadline, and never repeats a command."""
        order = self._contract_order(TEARDOWN, so_far, run_deadline=None)
        total = self.teardown_seconds
        bounded = msgspec.structs.replace(
            order.limits, stage_seconds=total, stage_limit=f"max_total_seconds_exceeded: {total}"
        )
        return msgspec.structs.replace(order, limits=bounded)

    def _contract_order(
        self, stage: str, so_far: Sequence[StageReport], *, run_deadline: float | None
    ) -> StageOrder:
        spec = STAGES[stage]
        section = spec.section(self._pipeline)
        commands = self._commands_of(stage, spec)
        env = self._env(section.env, so_far, session=self._session_now(so_far) if spec.session else None)
        metrics = section if isinstance(section, Evaluation) else None
        return self._build(
            stage,
            scratch=spec.scratch or stage,
            commands=tuple(
                PlannedCommand(
                    text=text,
                    name=f"{stage}_cmd{number:02d}",
                    retries=section.retries if spec.retries else 0,
                )
                for number, text in enumerate(commands, 1)
            ),
            env=env,
            limits=self._limits(section, run_deadline),
            workdir=section.workdir,
            children=spec.children,
            expects=self._expected_of(stage, so_far),
            metrics_path=metrics.metrics_path if metrics else None,
            required_keys=metrics.required_keys if metrics else (),
            terminal=stage == "auth" and self._is_interactive,
        )

    @property
    def _is_interactive(self) -> bool:
        wanted = self._pipeline.auth.interactive and self._settings.unattended == "guided"
        return wanted and self._around.has_terminal

    def _commands_of(self, stage: str, spec: StageSpec) -> tuple[str, ...]:
        if stage == "tests" and self._settings.test_cmds is not None:
            return self._settings.test_cmds
        return spec.commands(self._pipeline)

    def _limits(self, section: Section, run_deadline: float | None) -> StageLimits:
        seconds, name = try_seconds(section.timeout_seconds, self.limits)
        total = self.limits.max_total_seconds
        return StageLimits(
            try_seconds=seconds,
            try_limit=name,
            stage_seconds=total,
            stage_limit=f"max_total_seconds_exceeded: {total}" if total is not None else "",
            run_deadline=run_deadline,
            output_bytes=self._settings.output_bytes,
        )

    def _expected_of(self, stage: str, so_far: Sequence[StageReport]) -> tuple[str, ...]:
        if stage == "rollout":
            return (ROLLOUT_JSON,)
        if stage == "evaluation":
            return (*_given(self._pipeline.evaluation.metrics_path), *HINT_FILES)
        if stage == "benchmark":
            path = self._pipeline.benchmark.metrics_path
            evaluated = any(report.stage == "evaluation" and not report.skipped for report in so_far)
            shared = evaluated and path == self._pipeline.evaluation.metrics_path
            return () if shared else _given(path)
        return ()

    def _session_now(self, so_far: Sequence[StageReport]) -> SessionValues:
        deployed = [r for r in so_far if r.stage in ("deploy_setup", "deploy_health") and not r.skipped]
        if not deployed or not all(report.ok for report in deployed):
            return self._session
        return after_deploy(
            self._session,
            self._around.read_runtime_env(),
            llm=self._llm,
            runtime_env_path=f"{self._around.repo_root}/{RUNTIME_ENV}",
        )

    def _env(
        self,
        own: Mapping[str, str],
        so_far: Sequence[StageReport],
        *,
        session: SessionValues | None = None,
    ) -> dict[str, str]:
        added = [report.env for report in so_far if report.env is not None]
        around = self._around
        return stage_env(
            inherited=around.inherited,
            bootstrap=added[-1] if added else {},
            stage_env=own,
            session=session,
            operator=self._settings.operator_env,
            unattended=self._settings.unattended,
            run_id=around.run_id,
            repo_root=around.repo_root,
            runner_root=around.runner_root,
            python=around.python,
        )

    def _build(
        self,
        stage: str,
        *,
        scratch: str,
        commands: tuple[PlannedCommand, ...],
        env: Mapping[str, str],
        folder: str | None = None,
        due: bool | None = None,
        **rest: Any,
    ) -> StageOrder:
        around = self._around
        nonce = around.new_nonce()
        scratch_path = f"scratch/{around.attempt}/{scratch}"
        overlay = forced(stage, f"{around.run_dir}/{scratch_path}", nonce, around.run_id, around.repo_root)
        return StageOrder(
            stage=stage,
            attempt=around.attempt,
            folder=f"{around.attempt}/{folder}" if folder else around.attempt,
            scratch=scratch_path,
            commands=commands,
            due=bool(commands) if due is None else due,
            env={**env, **overlay},
            nonce=nonce,
            **rest,
        )

    def _bootstrap_order(self) -> StageOrder:
        reading = self._around.read_bootstrap()
        bootstrap = reading.value if reading is not None and reading.value is not None else Bootstrap()
        base = self._env({}, ())
        added, warnings = bootstrap_env(bootstrap.env, base, self._around.repo_root, self._around.which)
        limits = declared_limits(self._pipeline)
        seconds, name = try_seconds(bootstrap.timeout_seconds, limits)
        commands = tuple(
            PlannedCommand(text=text, name=f"bootstrap_cmd{number:02d}", retries=bootstrap.retries)
            for number, text in enumerate(bootstrap.cmds, 1)
        )
        if reading is not None and reading.value is None:
            commands = (_unparsable(reading, "bootstrap"),)
        return self._build(
            "bootstrap",
            scratch="bootstrap",
            folder="bootstrap",
            commands=commands,
            due=reading is not None,
            env={**base, **added},
            limits=StageLimits(
                try_seconds=seconds,
                try_limit=name,
                run_deadline=self._around.run_deadline,
                output_bytes=self._settings.output_bytes,
            ),
            workdir=bootstrap.workdir,
            adds_env=added,
            warnings=(*warnings, *_codes(reading, "bootstrap.")),
        )

    def _actions_order(self) -> StageOrder:
        reading = self._actions
        actions = reading.value if reading is not None and reading.value is not None else Actions()
        commands = tuple(_planned(number, action) for number, action in enumerate(actions.actions, 1))
        if reading is not None and reading.value is None:
            commands = (_unparsable(reading, "actions"),)
        return self._build(
            "actions",
            scratch="actions",
            folder="actions",
            commands=commands,
            due=reading is not None,
            env=self._env({}, ()),
            limits=self._limits(Section(), self._around.run_deadline),
            children="stage",
        )

    def kubectl_dump(self, so_far: Sequence[StageReport]) -> StageOrder | None:
        """The questions to a cluster, where the contract asks for them. Never through a shell."""
        dump = self._pipeline.deploy.kubectl_dump
        if not dump.enabled:
            return None
        commands = [
            PlannedCommand(text=f"kubectl {' '.join(words)}", name=name, argv=("kubectl", *words), seconds=60)
            for name, words in _KUBECTL_QUESTIONS
        ]
        if dump.include_logs and dump.label_selector:
            place = ("-n", dump.namespace) if dump.namespace else ("--all-namespaces",)
            words = (
                "logs",
                *place,
                "-l",
                dump.label_selector,
                "--all-containers",
                "--timestamps",
                "--tail=2000",
            )
            commands.append(
                PlannedCommand(
                    text=f"kubectl {' '.join(words)}",
                    name="kubectl_logs",
                    argv=("kubectl", *words),
                    seconds=120,
                )
            )
        return self._build(
            "kubectl",
            scratch="kubectl",
            folder="kubectl",
            commands=tuple(commands),
            env=self._env({}, so_far),
            limits=StageLimits(),
            guarded=False,
        )


def _planned(number: int, action: Action) -> PlannedCommand:
    return msgspec.structs.replace(
        _deed(action),
        name=f"actions_{number:02d}_{_file_safe(action.id)}",
        env={"AIDER_FSM_ACTION_ID": action.id},
    )


def _deed(action: Action) -> PlannedCommand:
    if action.kind == "write_file":
        if not action.path:
            return PlannedCommand(text="write_file", name="", fault="missing_path")
        wanted = FileToWrite(path=action.path, content=action.content)
        return PlannedCommand(text=f"write_file {action.path}", name="", write=wanted)
    if action.kind not in COMMAND_KINDS:
        return PlannedCommand(text=action.kind, name="", fault=f"unsupported_action_kind: {action.kind}")
    if not action.cmd:
        return PlannedCommand(text=action.kind, name="", fault="missing_cmd")
    return PlannedCommand(
        text=action.cmd,
        name="",
        seconds=action.timeout_seconds,
        retries=action.retries,
        children="run" if action.kind == "start_service" else "stage",
    )


def _file_safe(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in text)[:60]


def _unparsable(reading: Reading[Any], name: str) -> PlannedCommand:
    problems = "\n".join(str(problem) for problem in reading.errors)
    return PlannedCommand(text=f"parse .aider_fsm/{name}.yml", name=f"{name}_parse", fault=problems)


def _codes(reading: Reading[Any] | None, prefix: str) -> tuple[str, ...]:
    problems: Iterable[Any] = reading.problems if reading is not None else ()
    return tuple(problem.code for problem in problems if problem.code.startswith(prefix))


def _given(path: str | None) -> tuple[str, ...]:
    return (path,) if path else ()


def runtime_env_object(content: bytes) -> Mapping[str, Any] | None:
    """The object a deployment wrote, or None for whatever else it may have written."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
