"""`fsmrt check`: every problem of the contract files at once."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterable, Iterator

from ..contract.environment import inherited, missing_variable_hint, missing_variables
from ..contract.model import Pipeline
from ..contract.problems import Problem
from ..contract.rules import Guard
from ..contract_files import Contract, read_contract, script_texts
from ..orders import STAGES
from ..repository import Repository
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
    problems = [*contract.problems, *(_not_passed(contract, repository) if ok else ())]
    screen = console(no_color=args.no_color)
    if args.json:
        screen.out.json(diagnostics.document(problems, ok=ok))
    else:
        diagnostics.show(problems, repository, screen.out)
        tally = diagnostics.tally(problems)
        screen.out.line(_praise(contract, tally, screen.out) if ok else _blame(tally, screen.out))
    return 0 if ok else USAGE


def _not_passed(contract: Contract, repository: Repository) -> Iterator[Problem]:
    """Variables that commands or their scripts name, that are set here, and that commands will not get."""
    environ = dict(os.environ)
    pipeline = contract.accepted()
    security = pipeline.security
    guard = Guard(security.mode, security.allowlist, security.denylist, repo_root=str(repository.root))
    for stage, spec in STAGES.items():
        commands = spec.commands(pipeline)
        text = "\n".join([*commands, *script_texts(repository, pipeline, stage, commands, guard)])
        known = {*inherited(environ), *spec.section(pipeline).env, *_prepared(contract)}
        for name in missing_variables(text, environ, known):
            yield Problem(
                level="warning", code="variable_not_passed", file=contract.file, line=0, column=0,
                path=f"$.{stage.partition('_')[0]}", message=missing_variable_hint(name),
            )  # fmt: skip


def _prepared(contract: Contract) -> Iterable[str]:
    bootstrap = contract.bootstrap.value if contract.bootstrap is not None else None
    return bootstrap.env if bootstrap is not None else ()


def _blame(tally: str, to: Output) -> str:
    return f"{to.paint(to.mark('✗'), 'red', 'bold')} {tally}"


def _praise(contract: Contract, remarks: str, to: Output) -> str:
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
