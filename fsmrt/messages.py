"""Every value that crosses a channel, and so may cross a file or a wire: orders, reports, records.

    supervisor --StageOrder--> stage actor --StageReport--> supervisor
    stage actor --Command--> sandbox --Exit--> stage actor
    everyone --records--> recorder

All are frozen. An order is complete: whoever performs it asks nobody. A report is a fact: whoever reads it
decides. Expected failure is a report with a `Reason`; an exception out of an actor is a defect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from .verdict import Reason, Verdict

SandboxKind = Literal["docker", "bwrap", "host"]
StatusSource = Literal["process", "runner", "engine", "synthetic"]
ChildrenLive = Literal["stage", "run"]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """The root of all that may cross a channel."""


# What a sandbox is asked, and what it answers.


class Command(Message, frozen=True, kw_only=True):
    """One try of one command, complete: a sandbox needs nothing else to run it."""

    cmd_id: str
    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]
    stage: str
    children: ChildrenLive = "run"
    """How long background children may live once the command itself has ended."""
    output_bytes: int | None = None
    """End the command when both streams together exceed this."""
    terminal: bool = False
    """Give the command our terminal instead of capturing its output."""


class Usage(Message, frozen=True, kw_only=True):
    """What the kernel counted for a command and the descendants it waited for."""

    utime_us: int
    stime_us: int
    maxrss_kib: int | None
    """None when it cannot be told from our own: the kernel starts a child's count at its parent's peak."""
    minflt: int
    majflt: int
    inblock: int
    oublock: int
    nvcsw: int
    nivcsw: int


class Exit(Message, frozen=True, kw_only=True):
    """How the main process of a command ended. `code` and `signal` exclude each other."""

    code: int | None
    signal: int | None
    core_dumped: bool = False
    oom_killed: bool = False
    seconds: float
    drain_cut: bool = False
    usage: Usage | None = None
    cgroup: Mapping[str, int | None] | None = None
    leftover_pids: tuple[int, ...] = ()
    """Processes of the command still alive when its main process had ended."""
    status_source: StatusSource = "process"

    @property
    def rc(self) -> int:
        """The number a shell would show: 128+n for death by signal n."""
        return self.code if self.code is not None else 128 + (self.signal or 0)


class Ended(Message, frozen=True, kw_only=True):
    """A process that was still there and had to be ended, or was left on purpose."""

    pid: int
    command: str
    age_seconds: float
    how: Literal["exited", "terminated", "killed", "left_running", "leaked"]


class SandboxFacts(Message, frozen=True, kw_only=True):
    """What a sandbox is and what it can promise, for the record."""

    kind: SandboxKind
    containment: str
    """How a whole process tree is ended here: `cgroup`, `subreaper_walk`, `marker_walk`, ..."""
    exact: bool
    """Whether that method cannot miss a process."""
    isolation: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    image: str | None = None
    image_digest: str | None = None
    cgroup: str | None = None


# What a stage is ordered, and what it reports.


class StageLimits(Message, frozen=True, kw_only=True):
    """Seconds, or None; with each the name under which a command's result reports it."""

    try_seconds: float | None = None
    try_limit: str = ""
    stage_seconds: float | None = None
    stage_limit: str = ""
    run_deadline: float | None = None
    """On the event loop's clock; None for no limit."""
    output_bytes: int | None = None


class PlannedCommand(Message, frozen=True, kw_only=True):
    """One entry of a stage: a command, a file to write, or something that cannot be done and says why."""

    text: str
    """What the contract says; `/bin/sh -c` runs it."""
    name: str
    """Prefix of its files: `<stage>_cmd01`."""
    argv: tuple[str, ...] | None = None
    """What is executed instead of a shell. Only for commands fsmrt wrote itself."""
    env: Mapping[str, str] = msgspec.field(default_factory=dict)
    seconds: float | None = None
    """A limit of its own, beside the stage's."""
    retries: int = 0
    children: ChildrenLive | None = None
    """How long its background children live, where that differs from the stage."""
    write: FileToWrite | None = None
    fault: str | None = None


class FileToWrite(Message, frozen=True, kw_only=True):
    """A file an action puts into the repository."""

    path: str
    content: str


class StageOrder(Message, frozen=True, kw_only=True):
    """Everything a stage actor needs to perform one stage of one pass."""

    stage: str
    attempt: str
    """Folder of the pass, relative to the run folder: `full_attempt_01`."""
    folder: str
    """Folder of this stage's files, relative to the run folder."""
    scratch: str
    """Folder its commands may write to, relative to the run folder."""
    commands: tuple[PlannedCommand, ...]
    env: Mapping[str, str]
    limits: StageLimits
    workdir: str | None = None
    children: ChildrenLive = "run"
    nonce: str = ""
    expects: tuple[str, ...] = ()
    """Files this stage is to write, relative to the repository; older ones are moved aside."""
    metrics_path: str | None = None
    required_keys: tuple[str, ...] = ()
    adds_env: Mapping[str, str] | None = None
    """What later stages get in their environment if this one passes."""
    guarded: bool = True
    """Whether the command rules apply. Off only for commands fsmrt wrote itself."""
    terminal: bool = False
    due: bool = True
    """Whether there is anything to perform. A bootstrap may have no commands and still add to the environment."""
    warnings: tuple[str, ...] = ()


class StreamReport(Message, frozen=True, kw_only=True):
    """One stream of one try, as kept. `head` and `tail` are decoded for display, redacted."""

    path: str
    bytes: int
    truncated: bool
    sha256: str = ""
    bytes_head: int = 0
    bytes_tail: int = 0
    bytes_omitted: int = 0
    head: str = ""
    tail: str = ""


class TryReport(Message, frozen=True, kw_only=True):
    """One execution of one command."""

    cmd_id: str
    cmd: str
    path: str
    """Prefix of its files, relative to the run folder."""
    try_number: int
    rc: int
    signal: int | None = None
    timed_out: bool = False
    output_limit: bool = False
    cancelled: bool = False
    refused: str | None = None
    oom: bool = False
    drain_cut: bool = False
    limit: str | None = None
    """Name of the limit that ended it."""
    status_source: StatusSource = "process"
    started_at: str = ""
    seconds: float = 0.0
    stdout: StreamReport
    stderr: StreamReport

    @property
    def ok(self) -> bool:
        """Success needs a status of 0 that was not forced by us."""
        return self.rc == 0 and not (
            self.timed_out or self.cancelled or self.output_limit or self.refused or self.oom
        )


class CommandReport(Message, frozen=True, kw_only=True):
    """All tries of one command."""

    cmd: str
    tries: tuple[TryReport, ...]


class StageReport(Message, frozen=True, kw_only=True):
    """What became of a stage."""

    stage: str
    attempt: str
    ok: bool
    skipped: bool = False
    stopped: bool = False
    """Cancelled before it could end by itself."""
    commands: tuple[CommandReport, ...] = ()
    reason: Reason | None = None
    message: str | None = None
    failed_stage: str | None = None
    """The name results use: the stage's own, or `metrics`."""
    seconds: float = 0.0
    metrics: Mapping[str, Any] | None = None
    metrics_errors: tuple[str, ...] = ()
    score: float | None = None
    env: Mapping[str, str] | None = None
    """What bootstrap adds to the environment of later stages."""
    warnings: tuple[str, ...] = ()

    @property
    def tries(self) -> tuple[TryReport, ...]:
        """All tries in the order they ran."""
        return tuple(one for command in self.commands for one in command.tries)


# What the recorder is told.


class Note(Message, frozen=True, kw_only=True):
    """A lifecycle event: one line of `events.jsonl`."""

    type: str
    data: Mapping[str, Any]


class Decision(Message, frozen=True, kw_only=True):
    """What the command rules said."""

    allowed: bool
    rule: str
    reason: str


class CommandStarted(Message, frozen=True, kw_only=True):
    """A command was placed; it is recorded before anything else happens to it."""

    cmd_id: str
    order: StageOrder
    planned: PlannedCommand
    try_number: int
    path: str
    cwd: str
    decision: Decision | None = None


class CommandFinished(Message, frozen=True, kw_only=True):
    """A try is over, however it ended."""

    stage: str
    report: TryReport
    exit: Exit | None = None
    pid: int | None = None


class Refusal(Message, frozen=True, kw_only=True):
    """A result without a process: refused, impossible, or done by fsmrt itself."""

    order: StageOrder
    report: TryReport
    decision: Decision | None = None


class LayerRecords(Message, frozen=True, kw_only=True):
    """Observations of one layer, in order."""

    layer: str
    records: tuple[Mapping[str, Any], ...]


class KeptFile(Message, frozen=True, kw_only=True):
    """A small file for the run folder. With `replace` the last version counts, with `keep_first` the first."""

    path: str
    data: bytes
    replace: bool = False
    keep_first: bool = False


class LastTry(Message, frozen=True, kw_only=True):
    """The files of a stage's last try get the stage's own name as well."""

    folder: str
    stage: str
    prefix: str


class Checkpoint(Message, frozen=True, kw_only=True):
    """Everything so far must be on disk."""

    final: bool = False
    """Sync without a further event: the last line of a run is its end."""


Record = Note | CommandStarted | CommandFinished | Refusal | LayerRecords | KeptFile | LastTry | Checkpoint


# What a run answers.


class Target(Message, frozen=True, kw_only=True):
    """What was run."""

    kind: Literal["path", "git", "dataset"]
    path: str
    commit: str | None = None
    dirty: bool | None = None


class RunResult(Message, frozen=True, kw_only=True):
    """The answer of a run. `ok` and `verdict` are independent: see `fsmrt.verdict`."""

    run_id: str
    ok: bool
    verdict: Verdict
    reason: Reason | None
    message: str | None
    reward: float | None
    failed_stage: str | None
    target: Target
    sandbox: SandboxFacts | None
    stages: tuple[StageReport, ...] = ()
    metrics: Mapping[str, Any] | None = None
    metrics_errors: tuple[str, ...] = ()
    repair: Literal["unavailable"] | None = None
    warnings: tuple[str, ...] = ()
    leaks: tuple[str, ...] = ()
    timings: Mapping[str, float] = msgspec.field(default_factory=dict)
    """Milliseconds by phase."""
    artifacts_dir: str | None = None
    run_dir: str | None = None
    run_root: str | None = None
    terminated: bool = False
    """Whether the operator's stop was a SIGTERM."""
