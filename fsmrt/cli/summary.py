"""What a run came to, for people: the verdict, who has to act, what failed and how to see it again."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from ..contract.model import Section
from ..contract.secrets import is_secret_name
from ..messages import RunResult, StageReport, TryReport
from ..orders import STAGES
from ..request import Request
from ..verdict import CANCELLATIONS, OWNER, Owner, Reason
from .output import Output, printable
from .quantities import counted, duration

LINES = 15
_MOST_WARNINGS = 10
_WIDEST = 400

_TO_ACT: Mapping[Owner, str] = {
    Owner.CONTRACT: "the contract has to change",
    Owner.TASK: "the repository's own business",
    Owner.POLICY: "the model measured gave nothing",
    Owner.SANDBOX: "this machine is at fault, not the repository",
    Owner.PROVIDER: "a service out there is at fault, not the repository",
    Owner.AGENT: "the agent is at fault",
    Owner.BUG: "a bug of fsmrt",
    Owner.OPERATOR: "in the hands of whoever runs it",
}


class Failure(msgspec.Struct, frozen=True):
    """The try that a run failed by."""

    stage: StageReport
    last: TryReport
    tries: int


def headline(result: RunResult, to: Output) -> str:
    """One line that says it all; the only one with `--quiet`."""
    if result.run_dir is None:
        title = to.paint(f"{to.mark('✗')} not started", "red", "bold")
        return f"{title}: {result.reason}: {_on_one_line(result.message or '')}"
    took = f", {duration(result.timings['total_ms'] / 1000)}" if "total_ms" in result.timings else ""
    if result.ok:
        return f"{to.paint(to.mark('✓') + ' passed', 'green', 'bold')}, {_score(result)}{took}"
    title = to.paint(f"{to.mark('✗')} {_what_happened(result)}", "red", "bold")
    if result.reason in CANCELLATIONS:
        return f"{title}, {_how_torn_down(result)}{took}"
    return f"{title}: {result.reason} ({_to_act(result.reason)}){took}"


def _score(result: RunResult) -> str:
    return f"no score: {result.reason}" if result.reward is None else f"score {result.reward:g}"


def _what_happened(result: RunResult) -> str:
    if result.reason in CANCELLATIONS:
        return "terminated" if result.terminated else "interrupted"
    return f"{result.failed_stage} failed" if result.failed_stage else "no result"


def _how_torn_down(result: RunResult) -> str:
    teardown = next((stage for stage in result.stages if stage.stage == "deploy_teardown"), None)
    if teardown is None:
        return "without teardown"
    return "and torn down" if teardown.ok else "and teardown did not get through"


def _to_act(reason: Reason | None) -> str:
    return "" if reason is None else _TO_ACT[OWNER[reason]]


def show(result: RunResult, request: Request, to: Output) -> None:
    """Everything worth saying, the headline last: it is what stays in sight."""
    for line in _body(result, request, to):
        to.line(line)
    to.line(headline(result, to))


def _body(result: RunResult, request: Request, to: Output) -> Iterator[str]:
    failure = failure_of(result)
    if failure is not None:
        yield from _output_of(failure, to)
    yield from _remarks(result, to)
    facts = dict(_facts(result, request, failure))
    width = max(map(len, facts), default=0)
    for name, text in facts.items():
        first, *more = text.splitlines() or [""]
        yield f"  {to.paint(f'{name:<{width}}', 'dim')}  {first}"
        yield from (f"  {' ' * width}  {line}" for line in more)


def failure_of(result: RunResult) -> Failure | None:
    """What failed, where it was a command."""
    for stage in result.stages:
        for command in stage.commands if not stage.ok else ():
            if command.tries and not command.tries[-1].ok:
                return Failure(stage, command.tries[-1], len(command.tries))
    return None


def _output_of(failure: Failure, to: Output) -> Iterator[str]:
    command = _on_one_line(failure.last.cmd)
    tries = f"  (after {failure.tries} tries)" if failure.tries > 1 else ""
    yield f"{to.paint('$', 'dim')} {to.paint(command, 'bold')}{to.paint(tries, 'dim')}"
    bar = to.paint(to.mark("│"), "dim")
    for stream in (failure.last.stdout, failure.last.stderr):
        lines = (stream.head + stream.tail).splitlines()
        if len(lines) > LINES or stream.truncated:
            yield to.paint(f"  {bar} ... {counted(stream.bytes, 'byte')} in {Path(stream.path).name}", "dim")
        yield from (f"  {bar} {_cut(printable(line))}" for line in lines[-LINES:])
    yield ""


def _cut(line: str) -> str:
    """A line that a screen can hold; the rest is in the file."""
    return line if len(line) <= _WIDEST else f"{line[:_WIDEST]}..."


def _on_one_line(text: str) -> str:
    return " ".join(printable(line) for line in text.splitlines())


def _remarks(result: RunResult, to: Output) -> Iterator[str]:
    for warning in result.warnings[:_MOST_WARNINGS]:
        yield f"{to.paint('warning:', 'yellow')} {printable(warning)}"
    if len(result.warnings) > _MOST_WARNINGS:
        yield to.paint(f"... {len(result.warnings) - _MOST_WARNINGS} more warnings in verdict.json", "dim")
    for leak in result.leaks:
        yield f"{to.paint('left behind:', 'red', 'bold')} {printable(leak)}"
    for error in result.metrics_errors:
        yield f"{to.paint('metrics:', 'red')} {printable(error)}"


def _facts(result: RunResult, request: Request, failure: Failure | None) -> Iterator[tuple[str, str]]:
    if result.message and result.run_dir is not None:
        yield "because", "\n".join(printable(line) for line in result.message.splitlines())
    if failure is not None:
        if failure.last.limit:
            yield "knob", knob(failure.last.limit, failure.stage.stage)
        if failure.last.status_source != "synthetic" and not failure.last.cancelled:
            yield "reproduce", reproduction(failure, result, request)
    if result.run_dir is not None:
        yield "evidence", _evidence(result.run_dir, failure)


def _evidence(run_dir: str, failure: Failure | None) -> str:
    return run_dir if failure is None else f"{run_dir}/{failure.last.path}_*"


def knob(limit: str, stage: str) -> str:
    """What to turn so that a limit ends later."""
    section = stage.partition("_")[0]
    if limit == "timeout_seconds":
        return {
            "bootstrap": "timeout_seconds in .aider_fsm/bootstrap.yml",
            "actions": "timeout_seconds of the action in .aider_fsm/actions.yml",
        }.get(section, f"{section}.timeout_seconds in the contract")
    for name in ("max_cmd_seconds", "max_total_seconds"):
        if limit.startswith(name):
            return f"security.{name} in the contract, or --env AIDER_FSM_{name.upper()}=..."
    return {"run_timeout": "--timeout", "output_bytes": "--output-bytes"}.get(limit, limit)


def reproduction(failure: Failure, result: RunResult, request: Request) -> str:
    """A line for a shell that does the same without fsmrt; of the environment, only what the command names."""
    section = _section(failure.stage.stage, request)
    workdir = request.repository.workdir(section.workdir)
    command = failure.last.cmd
    settings = [f"{name}={shlex.quote(value)}" for name, value in _named(command, section, result)]
    # Always in a shell of its own: an `exit` or `&` in it would be obeyed by the one it is pasted into.
    return f"cd {shlex.quote(str(workdir))} && {' '.join([*settings, 'sh', '-c', shlex.quote(command)])}"


def _section(stage: str, request: Request) -> Section:
    if stage in STAGES:
        return STAGES[stage].section(request.pipeline)
    reading = request.contract.bootstrap if stage == "bootstrap" else None
    return reading.value if reading is not None and reading.value is not None else Section()


def _named(command: str, section: Section, result: RunResult) -> Iterator[tuple[str, str]]:
    prepared = next((stage.env for stage in result.stages if stage.env), {})
    known = {
        "AIDER_FSM_PYTHON": sys.executable,
        "AIDER_FSM_REPO_ROOT": result.target.path,
        **prepared,
        **section.env,
    }
    for name, value in known.items():
        if re.search(rf"\$\{{?{re.escape(name)}\b", command) and not is_secret_name(name):
            yield name, value
