"""`fsmrt plan`: what would run, where and with which limits. Executes nothing."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence

from ..errors import ContractError
from . import diagnostics
from .configuration import configured
from .output import Output, console, printable
from .planned import Limit, Plan, StagePlan, plan
from .quantities import duration
from .request import prepared
from .target import repository_at
from .usage import USAGE


def main(args: Namespace) -> int:
    """0 where there is a plan, also one that would be refused; 2 without a contract."""
    screen = console(no_color=args.no_color)
    asked_for = configured(args)
    try:
        asked = prepared(args.target, asked_for.settings)
    except ContractError as error:
        if args.json:
            screen.out.json(diagnostics.document(error.problems, ok=False))
        else:
            diagnostics.show(error.problems, repository_at(args.target), screen.err)
        return USAGE
    planned = plan(asked, asked_for.chosen)
    if args.json:
        screen.out.json(planned)
    else:
        for line in _drawn(planned, screen.out):
            screen.out.line(line)
    return 0


def _drawn(planned: Plan, to: Output) -> Iterator[str]:
    yield f"{to.paint(planned.target, 'bold')}  {to.paint(planned.pipeline, 'dim')}"
    yield ""
    for stage in planned.stages:
        yield from _stage(stage, to)
    if not planned.stages:
        yield "  no stage has commands: nothing would run, and nothing would be checked"
    if planned.left_out:
        yield to.paint(f"without commands: {', '.join(planned.left_out)}", "dim")
    yield ""
    yield from _facts(planned, to)
    yield from (f"{to.paint('warning:', 'yellow')} {printable(text)}" for text in planned.warnings)
    yield from _objections(planned, to)


def _stage(stage: StagePlan, to: Output) -> Iterator[str]:
    yield f"{to.paint(stage.stage, 'bold')}  {to.paint(', '.join(_limits(stage)), 'dim')}"
    if stage.problem:
        yield f"    {to.paint(stage.problem, 'red')}"
    for command in stage.commands:
        first, *more = command.cmd.splitlines() or [""]
        again = f"  (up to {command.retries + 1} tries)" if command.retries else ""
        yield f"  {to.paint('$', 'dim')} {printable(first)}{to.paint(again, 'dim')}"
        yield from (f"    {printable(line)}" for line in more)
        if command.scripts:
            yield to.paint(f"      reads first: {', '.join(map(printable, command.scripts))}", "dim")
        yield from (to.paint(f"      {printable(remark)}", "dim") for remark in command.remarks)
        if command.refused:
            yield f"      {to.paint(f'refused: {printable(command.refused)}', 'red')}"
    if stage.expects:
        yield to.paint(f"      moves aside, and expects anew: {', '.join(stage.expects)}", "dim")


def _limits(stage: StagePlan) -> Iterator[str]:
    if stage.try_seconds.value is None and stage.stage_seconds.value is None:
        yield "no limit"
    for limit, of in ((stage.try_seconds, "a try"), (stage.stage_seconds, "in all")):
        if limit.value is not None:
            yield f"{_seconds(limit.value)} {of} ({limit.source})"
    if stage.env:
        yield f"sets {' '.join(stage.env)}"


def _seconds(value: float) -> str:
    return f"{value:g}s" if value < 600 else duration(value)


def _facts(planned: Plan, to: Output) -> Iterator[str]:
    facts = {
        "where": _where(planned, to),
        "evidence": planned.artifacts,
        "run limit": _limit(planned.limits["run_timeout"], "s"),
        "output limit": _limit(planned.limits["output_bytes"], " bytes a command"),
        "model": _model(planned),
        "inherited": _names(planned.environment["inherited"]),
        "passed": _names(planned.environment["operator"]),
        "secret": _names(planned.environment["secrets"]),
        "options": ", ".join(_options(planned)) or "all as built in",
    }
    for name, text in facts.items():
        yield f"{to.paint(f'{name:<13}', 'dim')} {text}"


def _where(planned: Plan, to: Output) -> str:
    if planned.sandbox.kind is None:
        return to.paint("nowhere, see below", "red")
    return f"{planned.sandbox.kind} ({planned.sandbox.why})"


def _limit(limit: Limit, unit: str) -> str:
    return "none" if limit.value is None else f"{limit.value:g}{unit} ({limit.source})"


def _model(planned: Plan) -> str:
    model = "none" if planned.llm is None else f"{planned.llm.kind} {printable(planned.llm.model)}"
    return f"{model}, mode {planned.mode}"


def _names(names: Sequence[str]) -> str:
    return " ".join(names) or "-"


def _options(planned: Plan) -> Iterator[str]:
    for name, chosen in planned.options.items():
        if chosen.source != "default":
            yield f"{name} = {chosen.value} ({chosen.source})"


def _objections(planned: Plan, to: Output) -> Iterator[str]:
    """Why a run would not get far, last: it is what has to be read."""
    if planned.sandbox.kind is None:
        yield f"{to.paint('would not start:', 'red', 'bold')} {planned.sandbox.why}"
    for stage in planned.stages:
        refused = [command for command in stage.commands if command.refused]
        if refused or stage.problem:
            why = stage.problem or refused[0].refused or ""
            yield f"{to.paint('would fail:', 'red', 'bold')} {stage.stage}: {printable(why)}"
