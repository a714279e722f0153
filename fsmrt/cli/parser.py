"""Every subcommand and every flag. Only argparse is imported here, so that `--help` costs next to nothing."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import partial

from .. import __version__
from .quantities import seconds, size

TYPE_CHECKING = False  # as in `fsmrt/__init__.py`: `--help` does not wait for `typing`
if TYPE_CHECKING:
    from typing import Any

SANDBOXES = ("auto", "docker", "bwrap", "host")
MODES = ("smoke", "full")
REDACTIONS = ("full", "shapes_only", "disabled_unsafe")
UNATTENDED = ("strict", "guided")
CONTRACT_FILES = ("pipeline", "bootstrap", "actions")

_DESCRIPTION = """\
Run any repository through the contract it owns (pipeline.yml and .aider_fsm/), under one supervisor, with limits
that hold and a folder of evidence at the end."""

_EPILOG = """\
a first time:
  fsmrt init                  propose a contract from what the repository shows
  fsmrt check                 every problem of it at once
  fsmrt plan --sandbox host   what would run, where, with which limits
  fsmrt run --sandbox host    run it

exit codes: 0 passed, 1 not met, 2 usage or contract, 3 no verdict, 4 preflight, 70 our bug,
            124 the run's deadline, 130/143 interrupted/terminated"""


_DEFAULTS = """\
Defaults come from FSMRT_SANDBOX, FSMRT_ARTIFACTS and FSMRT_STATE_DIR, then from
$XDG_CONFIG_HOME/fsmrt/config.toml (keys sandbox, artifacts, state_dir, timeout, output_bytes, redaction,
unattended); a flag beats a variable, a variable beats the file."""


class _Parser(argparse.ArgumentParser):
    """No guessed abbreviations: an unknown flag is an error, today and when a longer one is added."""

    def __init__(
        self, formatter: type[argparse.HelpFormatter] = argparse.HelpFormatter, **options: Any
    ) -> None:
        # The width is measured here because argparse would import a module of weight for it.
        super().__init__(allow_abbrev=False, formatter_class=partial(formatter, width=_width()), **options)


def _width() -> int:
    asked = os.environ.get("COLUMNS", "")
    try:
        columns = int(asked) if asked.isdecimal() else os.get_terminal_size(1).columns
    except OSError:
        columns = 80
    return max(40, columns - 2)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="fsmrt",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fsmrt {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (_run, _check, _plan, _init, _ps, _logs, _gc, _doctor, _schema):
        add(commands)
    return parser


def _command(commands: Any, name: str, line: str, more: str = "") -> argparse.ArgumentParser:
    text = f"{line[0].upper()}{line[1:]}."
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=line, description=f"{text} {more}".strip()
    )
    return parser


def _run(commands: Any) -> None:
    parser = _command(
        commands,
        "run",
        "run the full pass of a contract, keep the evidence, say what came of it",
        "Ctrl-C once ends the running command and tears down; twice cuts teardown short; a third time leaves at "
        f"once, and the next start or `fsmrt gc` cleans up. {_DEFAULTS}",
    )
    _target(parser)
    _wishes(parser)
    view = parser.add_argument_group("output")
    _json(view, "the result as one JSON document (fsmrt.result.v1) on stdout, and nothing else there")
    view.add_argument(
        "--events", metavar="FILE", help="the events as they come, one JSON object a line; - is stdout"
    )
    amount = view.add_mutually_exclusive_group()
    amount.add_argument("-q", "--quiet", action="store_true", help="only the last line")
    amount.add_argument(
        "-v", "--verbose", action="store_true", help="every command and what it prints, as it comes"
    )
    view.add_argument("--plain", action="store_true", help="one line a change, also on a terminal")
    _no_color(view)


def _check(commands: Any) -> None:
    parser = _command(
        commands,
        "check",
        "report every problem of the contract files at once; executes nothing",
        "Each problem comes with its place, its JSON path and what to write instead.",
    )
    _target(parser)
    _pipeline(parser)
    _json(parser, "the problems as one JSON document (fsmrt.problems.v1)")
    _no_color(parser)


def _plan(commands: Any) -> None:
    parser = _command(
        commands,
        "plan",
        "show what would run, where and with which limits; executes nothing",
        f"Names the commands that the rules would refuse, and where each setting came from. {_DEFAULTS}",
    )
    _target(parser)
    _wishes(parser)
    view = parser.add_argument_group("output")
    _json(view, "the plan as one JSON document (fsmrt.plan.v1)")
    _no_color(view)


def _init(commands: Any) -> None:
    parser = _command(
        commands,
        "init",
        "propose a first contract from what the repository shows",
        "Looks at files only; executes nothing and asks nobody.",
    )
    parser.add_argument(
        "directory", nargs="?", default=".", metavar="DIR", help="the repository (default: here)"
    )
    parser.add_argument("--force", action="store_true", help="replace contract files that are there")
    parser.add_argument("--print", action="store_true", help="write the proposal to stdout, and no file")
    _no_color(parser)


def _ps(commands: Any) -> None:
    parser = _command(commands, "ps", "list the live runs of this user, from any terminal")
    _json(parser, "the runs as one JSON document (fsmrt.ps.v1)")
    _no_color(parser)


def _logs(commands: Any) -> None:
    parser = _command(
        commands, "logs", "show what happened in a run, and what its commands printed; -f follows a live one"
    )
    parser.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help="a run id or its beginning, or a run folder (default: the newest run of this repository)",
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run has ended")
    _json(parser, "the recorded events as they are, one JSON object a line")
    _no_color(parser)


def _gc(commands: Any) -> None:
    parser = _command(
        commands,
        "gc",
        "end what dead runs left, and close their records; live runs are never touched",
        "Every start of a run does the same first.",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    _json(parser, "what was done as one JSON document (fsmrt.gc.v1)")
    _no_color(parser)


def _doctor(commands: Any) -> None:
    parser = _command(
        commands, "doctor", "say what this machine can do for fsmrt, and how to mend what it cannot"
    )
    _json(parser, "the findings as one JSON document (fsmrt.doctor.v1)")
    _no_color(parser)


def _schema(commands: Any) -> None:
    parser = _command(
        commands,
        "schema",
        "print the JSON Schema of a contract file",
        "For editors and for other programs.",
    )
    parser.add_argument(
        "file",
        nargs="?",
        default="pipeline",
        choices=CONTRACT_FILES,
        help="which file (default: %(default)s)",
    )


def _target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        nargs="?",
        default=".",
        metavar="TARGET",
        help="the repository: a folder of this machine (default: here)",
    )


def _pipeline(parser: Any) -> None:
    parser.add_argument(
        "--pipeline",
        default="pipeline.yml",
        metavar="FILE",
        help="the contract's main file, relative to TARGET (default: %(default)s)",
    )


def _wishes(parser: argparse.ArgumentParser) -> None:
    _what(parser.add_argument_group("what runs"))
    _where(parser.add_argument_group("where, and how long"))
    _environment(parser.add_argument_group("environment of the commands"))
    _evidence(parser.add_argument_group("evidence"))


def _what(group: Any) -> None:
    _pipeline(group)
    group.add_argument(
        "--stages",
        type=_names,
        metavar="A,B",
        help="only these of auth, tests, deploy, rollout, evaluation, benchmark; preparation and teardown as ever",
    )
    group.add_argument(
        "--test-cmd",
        action="append",
        metavar="COMMAND",
        help="run this in place of the contract's test commands; may be repeated",
    )
    group.add_argument(
        "--mode", choices=MODES, default="smoke", help="how much is evaluated (default: smoke)"
    )
    group.add_argument("--llm", metavar="MODEL", help="the model measured: a remote id, or a local folder")
    group.add_argument(
        "--unattended",
        choices=UNATTENDED,
        help="strict: nobody is there to answer a prompt (default). guided: somebody is",
    )


def _where(group: Any) -> None:
    group.add_argument(
        "--sandbox",
        choices=SANDBOXES,
        help="where commands run (default: as the contract's security.mode asks); this version has host only",
    )
    group.add_argument(
        "--allow-system",
        action="store_true",
        help="let a contract that came from elsewhere choose this machine (security.mode: system)",
    )
    group.add_argument(
        "--timeout",
        type=seconds,
        metavar="TIME",
        help="limit of the whole run but its teardown: 90, 90s, 5m, 2h",
    )
    group.add_argument(
        "--output-bytes",
        type=size,
        metavar="SIZE",
        help="end a command that prints more than this: 500000, 10MiB",
    )


def _environment(group: Any) -> None:
    group.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="a variable for every command, above the contract's own; NAME alone passes yours on",
    )
    group.add_argument(
        "--env-file",
        action="append",
        default=[],
        metavar="FILE",
        help="variables from a file, one NAME=VALUE a line taken literally; --env wins over it",
    )
    group.add_argument(
        "--secret",
        action="append",
        default=[],
        metavar="NAME",
        help="pass this variable of yours, and keep its value out of all evidence",
    )


def _evidence(group: Any) -> None:
    group.add_argument(
        "--artifacts", metavar="DIR", help="make the run folder in here (default: .aider_fsm/artifacts)"
    )
    group.add_argument(
        "--observe",
        action="append",
        default=[],
        metavar="LAYER=LEVEL",
        help="layers process, filesystem, network, policy, agent, kernel; levels off, try, require",
    )
    group.add_argument(
        "--redaction",
        choices=REDACTIONS,
        help="how much is looked for before anything is written (default: full)",
    )


def _json(parser: Any, text: str) -> None:
    parser.add_argument("--json", action="store_true", help=text)


def _no_color(parser: Any) -> None:
    parser.add_argument("--no-color", action="store_true", help="no colours; NO_COLOR says the same")


def _names(text: str) -> Sequence[str]:
    names = tuple(filter(None, (name.strip() for name in text.split(","))))
    if not names:
        raise argparse.ArgumentTypeError("name at least one stage")
    return names
