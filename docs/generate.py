"""Draws the pages that say what the code says: `python docs/generate.py`, or `--check` to compare only."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import TypeVar

DOCS = Path(__file__).parent
DRAWN = "<!-- Drawn from the code by docs/generate.py; edit the code, not this page. -->\n"

Phase = TypeVar("Phase", bound=Enum)
Signal = TypeVar("Signal", bound=Enum)
Machine = Mapping[Phase, Mapping[Signal, Phase]]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; a bar inside a cell does not end it."""
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *(list(row) for row in rows)]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def code(text: object) -> str:
    return f"`{text}`"


# States


def states_page() -> str:
    from fsmrt import states

    return (
        "# State machines\n\nEvery phase of a run and of a stage, and what each of them accepts. A signal that"
        " a phase does not accept is refused as a bug. Nothing else than `fsmrt.states.advance` changes a"
        " phase.\n\n"
        + _machine("A run", states.RUN, states.RunSignal)
        + _machine("A stage", states.STAGE, states.StageSignal)
    )


def _machine(title: str, machine: Machine[Phase, Signal], signals: type[Signal]) -> str:
    rows = (
        [code(phase.value), *(code(accepted[s].value) if s in accepted else "" for s in signals)]
        for phase, accepted in machine.items()
    )
    drawing = "".join(_arrows(phase, accepted) for phase, accepted in machine.items())
    head = ["phase", *(code(signal.value) for signal in signals)]
    return f"## {title}\n\n```text\n{drawing}```\n\n{table(head, rows)}\n"


def _arrows(phase: Phase, accepted: Mapping[Signal, Phase]) -> str:
    """One line an arrow, such as `running --stopped--> closing`."""
    if not accepted:
        return f"{phase.value:>10}  (final)\n"
    width = max(len(signal.value) for signal in accepted)
    return "".join(
        f"{phase.value:>10} --{signal.value:-<{width}}--> {after.value}\n"
        for signal, after in accepted.items()
    )


# Reasons


def reasons_page() -> str:
    from fsmrt.verdict import EXIT_CODES, OWNER, Owner, Reason, exit_code

    by_owner = {owner: [reason for reason in Reason if OWNER[reason] is owner] for owner in Owner}
    rows = (
        [owner.value, code(reason.value), str(exit_code(ok=False, reason=reason))]
        for owner, reasons in by_owner.items()
        for reason in reasons
    )
    return (
        "# Reasons and exit codes\n\nA run that does not end `scored` has one reason from this closed list, and the"
        " reason has one owner: who has to act on it. `policy` is the model being measured. The code is that of"
        " `fsmrt run` when `ok` is false; when `ok` is true it is 0, also where a reason explains why there is no"
        " score. After SIGTERM, 143 takes the place of 130.\n\n## Reasons\n\n"
        + table(["owner", "reason", "exit code"], rows)
        + "\n## Exit codes\n\n"
        + table(["code", "meaning"], ([str(number), meaning] for number, meaning in EXIT_CODES.items()))
    )


# Commands


def commands_page() -> str:
    from fsmrt.cli.parser import build_parser

    parser = build_parser()
    intro = f"# Commands\n\n{_sentence(parser.description)}\n\n{_options(parser)}"
    return intro + "".join(_subcommand(name, sub) for name, sub in _subparsers(parser).items())


def _subparsers(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _subcommand(name: str, parser: argparse.ArgumentParser) -> str:
    return f"## `fsmrt {name}`\n\n{_sentence(parser.description)}\n\n{_options(parser)}"


def _options(parser: argparse.ArgumentParser) -> str:
    """Written from the parser's actions: argparse's own text differs from one Python to the next."""
    hidden = (argparse._SubParsersAction, argparse._HelpAction)
    shown = [a for a in parser._actions if not isinstance(a, hidden) and a.help != argparse.SUPPRESS]
    rows = ([code(_spelling(action)), _help(action)] for action in shown)
    return table(["option", "meaning"], rows) + "\n" if shown else ""


def _spelling(action: argparse.Action) -> str:
    name = ", ".join(action.option_strings)
    if action.nargs == 0:
        return name
    return " ".join(filter(None, [name, _value(action)]))


def _value(action: argparse.Action) -> str:
    metavar = action.metavar or (
        "/".join(map(str, action.choices)) if action.choices else action.dest.upper()
    )
    text = metavar if isinstance(metavar, str) else " ".join(metavar)
    return f"[{text}]" if action.nargs == "?" else f"{text}..." if action.nargs in {"*", "+"} else text


def _help(action: argparse.Action) -> str:
    return " ".join(
        (action.help or "").replace("%%", "%").replace("%(default)s", str(action.default)).split()
    )


def _sentence(text: str | None) -> str:
    return " ".join((text or "").replace("%%", "%").split())


# Rules


def rules_page() -> str:
    from fsmrt.contract.rules import BUILT_IN_RULES

    rows = ([code(rule.name), ", ".join(rule.modes), rule.meaning] for rule in BUILT_IN_RULES)
    return (
        "# Command rules\n\nCommands are split as a shell would split them, and refused (exit status 126) when"
        " a rule of the contract's mode fits. The rules are advice that catches accidents early; they are no"
        " wall. More in [security](security.md).\n\n" + table(["rule", "modes", "refuses"], rows)
    )


# Library


def api_page() -> str:
    import fsmrt

    names = sorted(fsmrt.__all__)
    return (
        "# Library\n\nEverything that `import fsmrt` promises. Other names are the inside and may change.\n\n"
        + "".join(_public_name(name, getattr(fsmrt, name)) for name in names)
    )


def _public_name(name: str, value: object) -> str:
    if not callable(value):
        return f"## `{name}`\n\n{code(repr(value))}\n\n"
    shown = f"{_kind(value)} {name}{_signature(value)}"
    return f"## `{name}`\n\n```python\n{shown}\n```\n\n{inspect.cleandoc(value.__doc__ or '')}\n\n"


def _kind(value: object) -> str:
    if inspect.isclass(value):
        return "class"
    return "async def" if inspect.iscoroutinefunction(value) else "def"


def _signature(value: Callable[..., object]) -> str:
    if inspect.isclass(value) and issubclass(value, (Exception, Enum)):
        return ""
    try:
        return str(inspect.signature(value))
    except ValueError:  # some built-in types have none
        return ""


PAGES: Mapping[str, Callable[[], str]] = {
    "states.md": states_page,
    "reasons.md": reasons_page,
    "commands.md": commands_page,
    "rules.md": rules_page,
    "api.md": api_page,
}


def drawn(name: str) -> str:
    return DRAWN + PAGES[name]().rstrip("\n") + "\n"


def outdated(name: str) -> bool:
    page = DOCS / name
    return not page.exists() or page.read_text() != drawn(name)


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw the pages of the documents that come from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is out of date")
    parser.add_argument(
        "pages", nargs="*", metavar="PAGE", help=f"some of: {', '.join(PAGES)} (default: all)"
    )
    asked = parser.parse_args()
    stale = [name for name in asked.pages or PAGES if outdated(name)]
    for name in stale:
        if not asked.check:
            (DOCS / name).write_text(drawn(name))
        sys.stderr.write(f"{name}: {'out of date; run `make docs`' if asked.check else 'drawn'}\n")
    return int(asked.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
