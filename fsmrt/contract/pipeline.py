"""Reading `pipeline.yml`."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET
from yaml.nodes import Node

from .fields import (
    boolean,
    choice,
    command_fields,
    commands,
    path_inside,
    patterns,
    seconds,
    steps,
    string,
    strings,
    version,
)
from .model import (
    Artifacts,
    Auth,
    Deploy,
    Evaluation,
    KubectlDump,
    Pipeline,
    Rollout,
    Section,
    Security,
    Tests,
)
from .reading import Notes, Reading, read_document
from .sandbox_wishes import sandbox
from .sections import (
    Entries,
    Fields,
    child,
    is_mapping,
    known_entries,
    note_ignored_alias,
    read_fields,
    section,
)

Unattended = Literal["strict", "guided"]

_LIMIT_NAMES = frozenset({"AIDER_FSM_MAX_CMD_SECONDS", "AIDER_FSM_MAX_TOTAL_SECONDS"})


def read_pipeline(
    data: bytes,
    file: str = "pipeline.yml",
    *,
    repo_root: str | None = None,
    unattended: Unattended = "strict",
) -> Reading[Pipeline]:
    """Everything `pipeline.yml` says, or everything that is wrong with it; never raises for what is in `data`.

    With `repo_root` an absolute `workdir` inside it is accepted.
    """
    return read_document(data, Notes(file, "pipeline", repo_root), _Builder(unattended))


class _Builder:
    """Walks the root; a callable, so that the remarks can depend on how the run is attended."""

    def __init__(self, unattended: Unattended) -> None:
        self._unattended = unattended

    def __call__(self, notes: Notes, root: Node) -> Pipeline:
        if not is_mapping(notes, root, "$", null_allowed=False):
            return Pipeline()
        given = known_entries(notes, root, "$", _TOP.rules)
        pipeline = Pipeline(**read_fields(notes, given, "$", _TOP))
        if not notes.failed:  # what could not be read would look like something left out
            self._remark(notes, root, given, pipeline)
        return pipeline

    def _remark(self, notes: Notes, root: Node, given: Entries, pipeline: Pipeline) -> None:
        _remark_missing_commands(notes, given, pipeline)
        _remark_missing_limit(notes, root, pipeline)
        if self._unattended == "strict" and pipeline.auth.interactive:
            _remark_interactive(notes, given)


def _auth(notes: Notes, node: Node, path: str) -> Any:
    """`auth` has a third form of its commands, `steps`, looked at only if the other two give none."""
    if not is_mapping(notes, node, path):
        return UNSET
    given = known_entries(notes, node, path, _AUTH.rules)
    last_resort = given.pop("steps", None)
    values = read_fields(notes, given, path, _AUTH)
    if last_resort is not None:
        if values.get("cmds"):
            note_ignored_alias(notes, last_resort[0], f"{path}.steps", "cmds" if "cmds" in given else "cmd")
        else:
            values["cmds"] = steps(notes, last_resort[1], f"{path}.steps")
    return Auth(**{name: value for name, value in values.items() if value is not UNSET})


def _tooling(notes: Notes, node: Node, path: str) -> Any:
    """Accepted for the sake of old contracts, without effect."""
    if is_mapping(notes, node, path):
        for name, (key, _) in known_entries(notes, node, path, _TOOLING).items():
            message = "tooling has no effect; the commands of a contract install what they need"
            notes.warning("deprecated_key", key, child(path, name), message, "remove it")
    return UNSET


_TOOLING = dict.fromkeys(("ensure_tools", "ensure_kind_cluster", "kind_cluster_name", "kind_config"))

_SECURITY = Fields(
    {
        "mode": choice("safe", "system"),
        "allowlist": patterns,
        "denylist": patterns,
        "max_cmd_seconds": seconds,
        "max_total_seconds": seconds,
    }
)

_AUTH = Fields({"interactive": boolean, "steps": commands}).joined(command_fields("cmds"))

_KUBECTL_DUMP = Fields(
    {"enabled": boolean, "namespace": string, "label_selector": string, "include_logs": boolean}
)

_DEPLOY = Fields(
    {
        "teardown_policy": choice("always", "on_success", "on_failure", "never"),
        "kubectl_dump": section(KubectlDump, _KUBECTL_DUMP),
    }
).joined(command_fields("setup_cmds", "health_cmds", "teardown_cmds"))

_EVALUATION = Fields({"metrics_path": path_inside(), "required_keys": strings}).joined(
    command_fields("run_cmds")
)

_TOP = Fields(
    {
        "version": version,
        "security": section(Security, _SECURITY),
        "auth": _auth,
        "tests": section(Tests, command_fields("cmds")),
        "deploy": section(Deploy, _DEPLOY),
        "rollout": section(Rollout, command_fields("run_cmds")),
        "evaluation": section(Evaluation, _EVALUATION),
        "benchmark": section(Evaluation, _EVALUATION),
        "artifacts": section(Artifacts, Fields({"out_dir": path_inside()})),
        "tooling": _tooling,
        "sandbox": sandbox,
    }
)


def _sections(pipeline: Pipeline) -> tuple[Section, ...]:
    return (
        pipeline.auth,
        pipeline.tests,
        pipeline.deploy,
        pipeline.rollout,
        pipeline.evaluation,
        pipeline.benchmark,
    )


def _commands(part: Section) -> tuple[str, ...]:
    match part:
        case Auth() | Tests():
            return part.cmds
        case Deploy():
            return part.setup_cmds + part.health_cmds + part.teardown_cmds
        case Rollout() | Evaluation():
            return part.run_cmds
        case _:
            raise TypeError(f"{type(part).__name__} is no section of a pipeline")


def _remark_missing_commands(notes: Notes, given: Entries, pipeline: Pipeline) -> None:
    for name, part in (("evaluation", pipeline.evaluation), ("benchmark", pipeline.benchmark)):
        if part.metrics_path is not None and not part.run_cmds:
            message = f"{name}.metrics_path has no effect: {name} has no run_cmds that could write the file"
            key, value = given[name]
            place = _key_of(value, "metrics_path") or key
            notes.warning(
                "metrics_without_commands", place, f"$.{name}.metrics_path", message, "add run_cmds"
            )


def _remark_missing_limit(notes: Notes, root: Node, pipeline: Pipeline) -> None:
    parts = [part for part in _sections(pipeline) if _commands(part)]
    if parts and not _is_limited(pipeline):
        message = (
            "no time limit anywhere: a command that hangs, hangs until the run's own deadline, if it has one"
        )
        notes.warning(
            "commands_without_limit", root, "$", message, "set security.max_cmd_seconds, such as 1800"
        )


def _is_limited(pipeline: Pipeline) -> bool:
    security = pipeline.security
    return (
        security.max_cmd_seconds is not None
        or security.max_total_seconds is not None
        or any(
            part.timeout_seconds is not None or _LIMIT_NAMES & part.env.keys() for part in _sections(pipeline)
        )
    )


def _remark_interactive(notes: Notes, given: Entries) -> None:
    key, value = given["auth"]
    message = "auth.interactive needs somebody at the terminal; without --unattended guided it has no effect"
    place = _key_of(value, "interactive") or key
    notes.warning(
        "interactive_needs_guided", place, "$.auth.interactive", message, "run with --unattended guided"
    )


def _key_of(node: Node, name: str) -> Node | None:
    """Where a section writes that key itself; None if it was merged in."""
    return next((key for key, _ in node.value if key.value == name), None)
