"""`fsmrt run`: the full pass, watched, and its answer."""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import anyio

from ..control import Control
from ..errors import ContractError
from ..messages import RunResult
from ..request import Request
from ..result import code_of, document
from ..sandbox.cgroup import why_unavailable
from ..sandbox.containment import become_subreaper
from ..session import perform
from . import diagnostics, summary
from .configuration import configured
from .interrupts import caught_signals, obey
from .narration import EventStream, Narration, Remarks, View
from .output import Console, Output, console
from .picture import Picture
from .plain import PlainView
from .planned import planned_commands
from .request import prepared
from .target import repository_at
from .usage import USAGE, UsageError


def main(args: Namespace) -> int:
    """The exit code of the run."""
    if args.json and args.events == "-":
        raise UsageError("--json and --events - both want stdout; give --events a file")
    screen = console(no_color=args.no_color)
    settings = configured(args).settings
    try:
        request = prepared(args.target, settings)
    except ContractError as error:
        return _refuse(error, args, screen)
    _keep_log_quiet(args.verbose)
    with _event_outputs(args.events, screen) as streams:
        result = _watched(request, [*streams, _view(args, request, screen)])
    if any(stream.gone for stream in streams):
        screen.err.line(f"--events {args.events}: not all could be written; {result.run_dir} has all events")
    _answer(result, request, args, screen)
    return code_of(result)


def _keep_log_quiet(verbose: bool) -> None:
    """The traceback of a defect goes to the record; onto the screen only for who asks."""
    if not (verbose or os.environ.get("FSMRT_DEBUG")):
        logging.getLogger("fsmrt").addHandler(logging.NullHandler())
        logging.getLogger("fsmrt").propagate = False


def _refuse(error: ContractError, args: Namespace, screen: Console) -> int:
    problems = error.problems
    if args.json:
        screen.out.json(diagnostics.document(problems, ok=False))
    else:
        errors = problems if not args.quiet else ()
        diagnostics.show(errors, repository_at(args.target), screen.err)
        sign = screen.err.paint(f"{screen.err.mark('✗')} not started", "red", "bold")
        screen.err.line(f"{sign}: contract_invalid: {diagnostics.tally(problems)}")
    return USAGE


def _watched(request: Request, views: Sequence[View]) -> RunResult:
    if why_unavailable() is not None:
        become_subreaper()  # this process is ours alone: orphans of a run come to us instead of getting lost
    with Narration(views) as narration:
        return anyio.run(_perform, request, narration, backend="trio")


async def _perform(request: Request, narration: Narration) -> RunResult:
    control = Control()
    with caught_signals() as signals:
        async with anyio.create_task_group() as group:
            group.start_soon(obey, signals, control, narration.say)
            result = await perform(request, control=control, on_event=narration.observe)
            group.cancel_scope.cancel()
    return result


@contextmanager
def _event_outputs(where: str | None, screen: Console) -> Iterator[list[EventStream]]:
    with ExitStack() as held:
        if where is None:
            yield []
        elif where == "-":
            yield [EventStream(screen.out)]
        else:
            try:
                file = held.enter_context(open(where, "w", encoding="utf-8"))
            except OSError as error:
                raise UsageError(f"--events {where}: {error.strerror}") from None
            yield [EventStream(Output(file))]


def _view(args: Namespace, request: Request, screen: Console) -> View:
    if args.quiet:
        return Remarks(screen.err)
    picture = Picture(planned_commands(request))
    if _moves(args, screen) and not _needs_terminal(request):
        from .live import LiveView

        return LiveView(picture, request.run_dir, request.repository.root.name, color=not args.no_color)
    return PlainView(screen.err, picture, request.run_dir, verbose=args.verbose)


def _moves(args: Namespace, screen: Console) -> bool:
    """Whether a table may be redrawn on stderr: nobody else may write to that terminal meanwhile."""
    shared = args.events == "-" and screen.out.is_terminal
    wanted = not (args.plain or args.verbose or shared)
    return wanted and screen.err.is_terminal and os.environ.get("TERM", "dumb") != "dumb"


def _needs_terminal(request: Request) -> bool:
    """Whether a command may be given the terminal, which it must have for itself."""
    return request.pipeline.auth.interactive and request.settings.unattended == "guided"


def _answer(result: RunResult, request: Request, args: Namespace, screen: Console) -> None:
    if args.json:
        screen.out.json(document(result))
    to = screen.err if args.json or args.events == "-" else screen.out
    if args.quiet:
        to.line(summary.headline(result, to))
    else:
        summary.show(result, request, to)
