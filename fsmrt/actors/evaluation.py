"""Measuring, and reading the number that was measured."""

from __future__ import annotations

from functools import partial
from typing import Literal

from anyio import to_thread

from ..contract.metrics import judge
from ..messages import KeptFile, StageOrder
from ..repository import PathProblem
from ..verdict import Reason
from .progress import Progress
from .stage import StageActor


class EvaluationActor(StageActor):
    """`evaluation.run_cmds`, then its metrics, read once nothing of the stage runs any more."""

    name = "evaluation"
    metrics_of: Literal["evaluation", "benchmark"] = "evaluation"

    async def check(self, order: StageOrder, progress: Progress) -> None:
        if order.metrics_path is None:
            return
        content = await to_thread.run_sync(self.tools.repository.read_output, order.metrics_path)
        if isinstance(content, PathProblem):
            self._refuse(progress, (self._prefixed(content.message),))
            return
        await self._snapshot(order, content)
        judgement = await to_thread.run_sync(
            partial(
                judge, content, stage=self.metrics_of, required_keys=order.required_keys, nonce=order.nonce
            )
        )
        progress.metrics, progress.score = judgement.metrics, judgement.score
        if not judgement.ok:
            self._refuse(progress, judgement.errors)

    def _prefixed(self, text: str) -> str:
        return f"evaluation.{text}" if self.metrics_of == "evaluation" else text

    async def _snapshot(self, order: StageOrder, content: bytes) -> None:
        path = f"{order.attempt}/metrics_{self.metrics_of}.json"
        await self.tools.tell(KeptFile(path=path, data=content))
        # Evaluation's come first, and so they are the primary ones. Only the recorder knows what is written.
        await self.tools.tell(KeptFile(path=f"{order.attempt}/metrics.json", data=content, keep_first=True))

    def _refuse(self, progress: Progress, errors: tuple[str, ...]) -> None:
        progress.metrics_errors = errors
        progress.failed_stage = "metrics"
        progress.fail(_reason(errors[0]), errors[0])


def _reason(error: str) -> Reason:
    if "metrics_file_missing" in error:
        return Reason.METRICS_MISSING
    return Reason.METRICS_NOT_OK if "ok_not_true" in error else Reason.METRICS_INVALID
