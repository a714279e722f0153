"""The door: what was typed goes to the file of its subcommand, and what comes back is the exit code."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from importlib import import_module

from .output import console, ready_streams
from .parser import build_parser
from .usage import USAGE, UsageError

INTERRUPTED, OUR_BUG, PREFLIGHT = 130, 70, 4


def main(argv: Sequence[str] | None = None) -> int:
    """Perform one command line and return its exit code; never raises but for `SystemExit` of argparse."""
    ready_streams()
    args = build_parser().parse_args(argv)
    try:
        return _subcommand(args.command)(args)
    except UsageError as error:
        _complain(str(error))
        return USAGE
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except Exception as error:  # the last boundary: everything foreseen has been told by now
        return _unforeseen(error, verbose=getattr(args, "verbose", False))


def _subcommand(name: str) -> Callable[[Namespace], int]:
    """`main` of the module that performs it, imported only now."""
    perform: Callable[[Namespace], int] = import_module(f"{__package__}.{name}").main
    return perform


def _unforeseen(error: Exception, *, verbose: bool) -> int:
    from ..errors import PlatformUnsupported

    if isinstance(error, PlatformUnsupported):
        _complain(str(error))
        return PREFLIGHT
    if verbose or os.environ.get("FSMRT_DEBUG"):
        import traceback

        _complain(traceback.format_exc().rstrip())
    _complain(
        f"this is a bug of fsmrt: {_one_line(error)}. Please report it with the newest folder under "
        ".aider_fsm/artifacts, if there is one; FSMRT_DEBUG=1 shows the traceback"
    )
    return OUR_BUG


def _one_line(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _complain(text: str) -> None:
    err = console().err
    err.line(f"{err.paint('fsmrt:', 'red', 'bold')} {text}")


if __name__ == "__main__":
    sys.exit(main())
