"""`fsmrt check`: every problem of the contract files at once."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

from ..contract.model import Pipeline
from ..contract_files import Contract, read_contract
from ..orders import STAGES
from . import diagnostics
from .output import Output, console
from .quantities import counted
from .target import repository_at
from .usage import USAGE


def main(args: Namespace) -> int:
    """0 for a contract that may be committed as it is, warnings or not; 2 otherwise."""
    repository = repository_at(args.target)
    contract = read_contract(repository, args.pipeline)
    ok = all(problem.level == "warning" for problem in contract.problems)
    screen = console(no_color=args.no_color)
    if args.json:
        screen.out.json(diagnostics.document(contract.problems, ok=ok))
    else:
        diagnostics.show(contract.problems, repository, screen.out)
        screen.out.line(_praise(contract, screen.out) if ok else _blame(contract, screen.out))
    return 0 if ok else USAGE


def _blame(contract: Contract, to: Output) -> str:
    return f"{to.paint(to.mark('✗'), 'red', 'bold')} {diagnostics.tally(contract.problems)}"


def _praise(contract: Contract, to: Output) -> str:
    remarks = diagnostics.tally(contract.problems)
    stages = ", ".join(_stages(contract)) or "nothing: no stage has commands yet"
    fine = f"{contract.file} is fine" + (f" ({remarks})" if remarks else "")
    return f"{to.paint(to.mark('✓'), 'green', 'bold')} {fine}. It runs {stages}"


def _stages(contract: Contract) -> Iterator[str]:
    if contract.actions is not None and contract.actions.value is not None:
        yield f"actions ({len(contract.actions.value.actions)})"
    if contract.bootstrap is not None and contract.bootstrap.value is not None:
        yield _named("bootstrap", len(contract.bootstrap.value.cmds))
    yield from _stages_of(contract.accepted())


def _stages_of(pipeline: Pipeline) -> Iterator[str]:
    for name, spec in STAGES.items():
        if commands := spec.commands(pipeline):
            yield _named(name, len(commands))


def _named(stage: str, commands: int) -> str:
    return stage if commands == 1 else f"{stage} ({counted(commands, 'command')})"
