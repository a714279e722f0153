"""Bringing services up, looking after them, taking them down: three stages that share one scratch folder."""

from __future__ import annotations

from ..messages import KeptFile, StageOrder
from .progress import Progress
from .stage import StageActor
from .tools import Tools

RUNTIME_ENV = ".aider_fsm/runtime_env.json"


class DeploySetupActor(StageActor):
    """`deploy.setup_cmds`. What it starts lives until the run ends."""

    name = "deploy_setup"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._runtime_env_before: str | None = None

    async def prepare(self, order: StageOrder, progress: Progress) -> None:
        self._runtime_env_before = self.tools.repository.digest_of(RUNTIME_ENV)

    async def check(self, order: StageOrder, progress: Progress) -> None:
        before = self._runtime_env_before
        if before is not None and self.tools.repository.digest_of(RUNTIME_ENV) == before:
            progress.warnings.append(f"runtime_env_unchanged: deploy left {RUNTIME_ENV} as it was")


class DeployHealthActor(StageActor):
    """`deploy.health_cmds`: whether what was set up answers."""

    name = "deploy_health"


class DeployTeardownActor(StageActor):
    """`deploy.teardown_cmds`. Its result never changes a verdict."""

    name = "deploy_teardown"

    async def conclude(self, order: StageOrder, progress: Progress) -> None:
        """A failure here changes no verdict, so a file says it."""
        if progress.failure is not None:
            warning = f"{progress.failure[1]}\n".encode()
            path = f"{order.folder}/deploy_teardown_warning.txt"
            await self.tools.tell(KeptFile(path=path, data=warning))
