"""What a contract says, once it has been read and accepted: frozen values, defaults filled in.

`pipeline.yml`, `.aider_fsm/bootstrap.yml` and `.aider_fsm/actions.yml` become these structs. Reading and its
problems live beside this file; nothing here can fail. The published JSON Schema is generated from them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Mode = Literal["safe", "system"]
TeardownPolicy = Literal["always", "on_success", "on_failure", "never"]
NetworkLevel = Literal["open", "model", "none"]
ActionKind = Literal["run_cmd", "install_tool", "start_service", "write_file"]

Commands = Annotated[tuple[str, ...], Meta(description="Shell commands, run in this order with /bin/sh -c.")]
Patterns = Annotated[
    tuple[str, ...], Meta(description="Regular expressions, searched in the command, case ignored.")
]
Seconds = Annotated[int, Meta(gt=0, description="Whole seconds; unset means no limit of its own.")]
Bytes = Annotated[int, Meta(gt=0, description="A number of bytes, or a size such as 512m or 4 GiB.")]
RepositoryPath = Annotated[str, Meta(description="A path relative to the repository root, and inside it.")]


class _Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Security(_Value, frozen=True, kw_only=True):
    """Where commands belong, which are refused, and how long they may take."""

    mode: Annotated[Mode, Meta(description="safe: in a sandbox. system: on the host, announced.")] = "safe"
    allowlist: Patterns = ()
    denylist: Patterns = ()
    max_cmd_seconds: Annotated[Seconds, Meta(description="Limit of one try of a command.")] | None = None
    max_total_seconds: Annotated[Seconds, Meta(description="Limit of one stage.")] | None = None


class Section(_Value, frozen=True, kw_only=True):
    """The fields every section with commands shares (*common* in the reference)."""

    timeout_seconds: Annotated[Seconds, Meta(description="Limit of one try in this stage.")] | None = None
    retries: Annotated[int, Meta(ge=0, description="Extra tries for each command.")] = 0
    env: Annotated[dict[str, str], Meta(description="Variables of the commands; $NAME is not expanded.")] = (
        msgspec.field(default_factory=dict)
    )
    workdir: RepositoryPath | None = None


class Auth(Section, frozen=True, kw_only=True):
    """Signing in, before anything else runs."""

    cmds: Commands = ()
    interactive: Annotated[bool, Meta(description="With --unattended guided, auth gets the terminal.")] = (
        False
    )


class Tests(Section, frozen=True, kw_only=True):
    """The repository's own tests."""

    cmds: Commands = ()


class KubectlDump(_Value, frozen=True, kw_only=True):
    """What to record of a cluster before teardown."""

    enabled: bool = False
    namespace: str | None = None
    label_selector: str | None = None
    include_logs: bool = False


class Deploy(Section, frozen=True, kw_only=True):
    """Bringing a service up, asking whether it is healthy, and taking it down."""

    setup_cmds: Commands = ()
    health_cmds: Commands = ()
    teardown_cmds: Commands = ()
    teardown_policy: Annotated[TeardownPolicy, Meta(description="When teardown_cmds run.")] = "always"
    kubectl_dump: KubectlDump = KubectlDump()


class Rollout(Section, frozen=True, kw_only=True):
    """Commands in which the model works."""

    run_cmds: Commands = ()


class Evaluation(Section, frozen=True, kw_only=True):
    """Commands that write a metrics file. Also the shape of `benchmark`."""

    run_cmds: Commands = ()
    metrics_path: RepositoryPath | None = None
    required_keys: Annotated[
        tuple[str, ...], Meta(description="Keys the metrics must have; a.b is b inside a.")
    ] = ()


class Artifacts(_Value, frozen=True, kw_only=True):
    """Where the evidence of runs goes."""

    out_dir: RepositoryPath | None = None


class Mount(_Value, frozen=True, kw_only=True):
    """A folder or file of this machine that commands in a sandbox may see."""

    source: str
    target: Annotated[str, Meta(description="An absolute path inside the sandbox.")]
    mode: Literal["ro", "rw"] = "ro"


class SandboxWishes(_Value, frozen=True, kw_only=True):
    """What the commands need around them. The operator's settings win over it."""

    image: Annotated[str, Meta(description="A container image: tag or digest.")] | None = None
    build: (
        Annotated[RepositoryPath, Meta(description="A Dockerfile in the repository; excludes image.")] | None
    ) = None
    rootfs: Annotated[str, Meta(description="An unpacked root file system, for bwrap.")] | None = None
    network: NetworkLevel | dict[str, NetworkLevel] = "open"
    """One level, or stage -> level, with stage names as in `AIDER_FSM_STAGE`; an absent stage is `open`."""
    memory: Bytes | None = None
    cpus: Annotated[float, Meta(gt=0, description="Cores; fractions are allowed.")] | None = None
    pids: Annotated[int, Meta(gt=0, description="Processes at once.")] | None = None
    disk: Bytes | None = None
    gpus: Literal["all"] | int | tuple[str, ...] | None = None
    user: Annotated[str, Meta(description="caller, image, or UID:GID.")] = "caller"
    mounts: tuple[Mount, ...] = ()


class Pipeline(_Value, frozen=True, kw_only=True):
    """The whole of `pipeline.yml`."""

    version: int = 1
    security: Security = Security()
    auth: Auth = Auth()
    tests: Tests = Tests()
    deploy: Deploy = Deploy()
    rollout: Rollout = Rollout()
    evaluation: Evaluation = Evaluation()
    benchmark: Evaluation = Evaluation()
    artifacts: Artifacts = Artifacts()
    sandbox: SandboxWishes = SandboxWishes()


class Bootstrap(Section, frozen=True, kw_only=True):
    """`.aider_fsm/bootstrap.yml`. `env` is as written; expansion needs the run's environment."""

    cmds: Commands = ()


class Action(_Value, frozen=True, kw_only=True):
    """One entry of `.aider_fsm/actions.yml`."""

    id: str
    kind: str = "run_cmd"
    """One of `ActionKind`, or what was written instead: that action fails when its turn comes."""
    cmd: str | None = None
    timeout_seconds: Seconds | None = None
    retries: Annotated[int, Meta(ge=0, description="Extra tries.")] = 0
    path: Annotated[RepositoryPath, Meta(description="The file that write_file writes.")] | None = None
    content: str = ""
    risk_level: str | None = None
    rationale: str | None = None


class Actions(_Value, frozen=True, kw_only=True):
    """The whole of `.aider_fsm/actions.yml`: done once, in order."""

    actions: tuple[Action, ...] = ()
