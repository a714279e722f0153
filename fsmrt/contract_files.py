"""The contract files of a repository on disk: read once at the start, and what they execute."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from .contract.actions import read_actions
from .contract.bootstrap import read_bootstrap
from .contract.model import Actions, Bootstrap, Pipeline, Section
from .contract.pipeline import read_pipeline
from .contract.problems import Problem
from .contract.reading import Reading, missing
from .contract.rules import Guard
from .contract.scripts import audit
from .errors import ContractError
from .evidence.identity import canonical_json
from .orders import STAGES
from .repository import CONTRACT_DIR, PathProblem, Repository

BOOTSTRAP = f"{CONTRACT_DIR}/bootstrap.yml"
ACTIONS = f"{CONTRACT_DIR}/actions.yml"


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """What the files of a contract say. A file that is absent is None."""

    file: str
    pipeline: Reading[Pipeline]
    bootstrap: Reading[Bootstrap] | None = None
    actions: Reading[Actions] | None = None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything wrong with any of them, file by file."""
        readings = (self.pipeline, self.bootstrap, self.actions)
        return tuple(problem for reading in readings if reading is not None for problem in reading.problems)

    def accepted(self) -> Pipeline:
        """The pipeline; raises `ContractError` with every problem of every file if one has an error."""
        if self.pipeline.value is None or any(problem.level == "error" for problem in self.problems):
            raise ContractError(self.problems)
        return self.pipeline.value


def read_contract(repository: Repository, pipeline: str = "pipeline.yml") -> Contract:
    """Read all three files. Never raises for what is in them."""
    return Contract(
        file=pipeline,
        pipeline=_read_pipeline(repository, pipeline),
        bootstrap=read_bootstrap_file(repository),
        actions=read_actions_file(repository),
    )


def _read_pipeline(repository: Repository, file: str) -> Reading[Pipeline]:
    data = repository.read_contract_file(file)
    if isinstance(data, PathProblem):
        return Reading(None, (_unusable(file, data.message),))
    if data is None:
        return Reading(None, (missing(file),))
    return read_pipeline(data, file, repo_root=str(repository.root))


def read_bootstrap_file(repository: Repository) -> Reading[Bootstrap] | None:
    """`.aider_fsm/bootstrap.yml` as it is now."""
    data = repository.read_contract_file(BOOTSTRAP)
    if isinstance(data, PathProblem):
        return Reading(None, (_unusable(BOOTSTRAP, data.message),))
    return None if data is None else read_bootstrap(data, BOOTSTRAP, repo_root=str(repository.root))


def read_actions_file(repository: Repository) -> Reading[Actions] | None:
    """`.aider_fsm/actions.yml` as it is now."""
    data = repository.read_contract_file(ACTIONS)
    if isinstance(data, PathProblem):
        return Reading(None, (_unusable(ACTIONS, data.message),))
    return None if data is None else read_actions(data, ACTIONS, repo_root=str(repository.root))


def _unusable(file: str, message: str) -> Problem:
    return Problem(
        level="error", code="file_unreadable", file=file, line=0, column=0, path="$", message=message
    )


class FrozenContract(msgspec.Struct, frozen=True):
    """The contract as bytes: what a later change is compared with."""

    digests: dict[str, str]

    @property
    def hash(self) -> str:
        return hashlib.sha256(canonical_json(self.digests)).hexdigest()

    def changed_since(self, earlier: FrozenContract) -> list[str]:
        """Files that are not as they were, by name."""
        names = self.digests.keys() | earlier.digests.keys()
        return sorted(name for name in names if self.digests.get(name) != earlier.digests.get(name))


def contract_paths(repository: Repository, contract: Contract, guard: Guard) -> list[str]:
    """Every file that belongs to the contract: its own, its stages' and the scripts its commands execute."""
    own = [contract.file, BOOTSTRAP, ACTIONS, *repository.stage_scripts()]
    root = repository.root
    scripts = {
        script
        for command, workdir in _commands(repository, contract)
        for script in audit(command, workdir, guard=guard, read=repository.read_script).scripts
    }
    return sorted({*own, *(str(Path(script).relative_to(root)) for script in scripts)})


def _commands(repository: Repository, contract: Contract) -> Iterator[tuple[str, Path]]:
    for section, commands in _sections(contract):
        workdir = repository.workdir(section.workdir)
        if isinstance(workdir, Path):
            yield from ((command, workdir) for command in commands)


def _sections(contract: Contract) -> Iterator[tuple[Section, tuple[str, ...]]]:
    pipeline = contract.pipeline.value
    if pipeline is not None:
        yield from ((spec.section(pipeline), spec.commands(pipeline)) for spec in STAGES.values())
    bootstrap = contract.bootstrap.value if contract.bootstrap is not None else None
    if bootstrap is not None:
        yield bootstrap, bootstrap.cmds
    actions = contract.actions.value if contract.actions is not None else None
    if actions is not None:
        yield Section(), tuple(action.cmd for action in actions.actions if action.cmd)


def script_texts(
    repository: Repository, pipeline: Pipeline, stage: str, commands: Iterable[str], guard: Guard
) -> Iterator[str]:
    """The scripts of the repository that these commands of a stage execute, as text."""
    spec = STAGES.get(stage)
    workdir = repository.workdir(spec.section(pipeline).workdir if spec is not None else None)
    if isinstance(workdir, PathProblem):
        return
    for command in commands:
        for script in audit(command, workdir, guard=guard, read=repository.read_script).scripts:
            content = repository.read_script(script)
            if content is not None:
                yield content.data.decode(errors="replace")


def freeze(repository: Repository, paths: list[str]) -> FrozenContract:
    """The digests of these files as they are now."""
    return FrozenContract(repository.contract_digests(paths))
