"""What is to be run: checked and ready, before anything exists."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from .contract.environment import Llm, parse_llm
from .contract.model import Pipeline
from .contract_files import Contract, read_contract
from .errors import PlatformUnsupported, SpecError
from .evidence.identity import RunSpec, new_run_id
from .placement import Placement, place
from .plan import forward_stages
from .repository import CONTRACT_DIR, Repository
from .settings import Settings


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be run, checked and ready."""

    run_id: str
    repository: Repository
    contract: Contract
    pipeline: Pipeline
    settings: Settings
    stages: tuple[str, ...]
    llm: Llm | None

    @property
    def place(self) -> Path:
        """The folder in which the run folder is made."""
        if self.settings.artifacts is not None:
            return Path(self.settings.artifacts).expanduser().absolute()
        return self.repository.root / (self.pipeline.artifacts.out_dir or f"{CONTRACT_DIR}/artifacts")

    @property
    def run_dir(self) -> Path:
        """The run folder, which exists once the run has been opened."""
        return self.place / self.run_id


def prepare(target: str | os.PathLike[str], settings: Settings | None = None) -> Request:
    """Check everything that can be wrong before anything exists; raises as `run` does."""
    if sys.platform != "linux":
        raise PlatformUnsupported("fsmrt runs on Linux; elsewhere, use it inside a Linux virtual machine.")
    settings = settings or Settings()
    if not settings.environ:
        settings = settings.with_environ(dict(os.environ))
    repository = Repository(Path(target))
    contract = read_contract(repository, settings.pipeline)
    pipeline = contract.accepted()
    request = Request(
        run_id=new_run_id(datetime.now(UTC), os.urandom(8)),
        repository=repository,
        contract=contract,
        pipeline=pipeline,
        settings=settings,
        stages=_checked_stages(settings),
        llm=_llm(settings),
    )
    problems = [*settings.problems(), *_spec(request).problems()]
    if problems:
        raise SpecError(problems)
    return request


def _checked_stages(settings: Settings) -> tuple[str, ...]:
    try:
        return forward_stages(settings.stages)
    except ValueError as error:
        raise SpecError([("unknown_stage", "stages", str(error))]) from None


def _llm(settings: Settings) -> Llm | None:
    return None if settings.llm is None else parse_llm(settings.llm, _folder_at)


def _folder_at(text: str) -> str | None:
    path = Path(text).expanduser()
    if not path.exists():
        return None
    if not path.is_dir():
        raise NotADirectoryError(text)
    return str(path.resolve())


def _spec(request: Request) -> RunSpec:
    settings = request.settings
    return RunSpec(
        run_id=request.run_id,
        pipeline=settings.pipeline,
        env=settings.operator_env,
        secrets=tuple(settings.secrets),
        cwd=str(request.repository.root),
        timeout_s=settings.timeout,
        limits={"output_bytes": settings.output_bytes},
        observe=settings.observe,
    )


def placement_of(request: Request) -> Placement:
    """Where this run's commands would run, and why."""
    return place(
        request.pipeline.security.mode,
        request.settings.sandbox,
        remote=False,
        allow_system=request.settings.allow_system,
    )
