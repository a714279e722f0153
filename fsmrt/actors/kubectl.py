"""What the cluster looked like, for whoever reads the record. Never part of a verdict."""

from __future__ import annotations

from ..messages import StageOrder, TryReport
from .progress import Progress
from .stage import StageActor


class KubectlDumpActor(StageActor):
    """The five questions of the contract reference, and logs where it asks for them."""

    name = "kubectl"

    def goes_on_after(self, failure: TryReport) -> bool:
        return failure.status_source != "synthetic"  # there is no kubectl: it need not be asked five times

    async def conclude(self, order: StageOrder, progress: Progress) -> None:
        if not progress.checking:
            progress.warnings.append("kubectl_dump: kubectl could not be started where the commands run")
