"""Preparing the environment all later stages run in."""

from __future__ import annotations

from ..messages import KeptFile, StageOrder
from ..repository import CONTRACT_DIR
from .progress import Progress
from .stage import StageActor
from .tools import pretty


class BootstrapActor(StageActor):
    """`.aider_fsm/bootstrap.yml`: its commands already run in the environment it adds."""

    name = "bootstrap"

    async def prepare(self, order: StageOrder, progress: Progress) -> None:
        content = self.tools.repository.contract_bytes(f"{CONTRACT_DIR}/bootstrap.yml")
        await self.tools.tell(KeptFile(path=f"{order.folder}/bootstrap.yml", data=content))
        await self.tools.tell(
            KeptFile(path=f"{order.folder}/bootstrap_env.json", data=pretty(order.adds_env or {}))
        )
        if order.warnings:
            data = pretty({"warnings": order.warnings})
            await self.tools.tell(KeptFile(path=f"{order.folder}/bootstrap_parse_warnings.json", data=data))
