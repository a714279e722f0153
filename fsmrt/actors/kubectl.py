"""What the cluster looked like, for whoever reads the record. Never part of a verdict."""

from __future__ import annotations

from .stage import StageActor


class KubectlDumpActor(StageActor):
    """The five questions of the contract reference, and logs where it asks for them."""

    name = "kubectl"
