"""One-shot actions: performed once, then moved out of the repository into the record."""

from __future__ import annotations

from anyio import to_thread

from ..messages import KeptFile, StageOrder
from ..repository import CONTRACT_DIR
from .progress import Progress
from .stage import StageActor

ACTIONS = f"{CONTRACT_DIR}/actions.yml"


class ActionsActor(StageActor):
    """`.aider_fsm/actions.yml`. After a parse error the file stays where it is."""

    name = "actions"

    async def conclude(self, order: StageOrder, progress: Progress) -> None:
        if any(planned.fault is not None and planned.name.endswith("_parse") for planned in order.commands):
            return
        content = self.tools.repository.contract_bytes(ACTIONS)
        await self.tools.tell(KeptFile(path=f"{order.folder}/actions.yml", data=content))
        problem = await to_thread.run_sync(self.tools.repository.remove, ACTIONS)
        if problem is not None:
            progress.warnings.append(f"actions_left: {problem.message}")
