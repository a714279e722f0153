"""The record of one run while it is being written: everything the recorder needs, opened and closed together."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .events import EVENTS, EventLog
from .feed import Feed
from .folder import RunFolder
from .health import Health, LayerHealth, absent, clipped, complete, health_document
from .identity import canonical_json
from .layers import LAYERS, LayerLog
from .redaction import Redactor

PLATFORM = "linux"


class RunRecord:
    """A run folder with its event log and layers. `run.json` is the first thing in it, and never changes."""

    def __init__(self, folder: RunFolder, redactor: Redactor, run: Mapping[str, Any]) -> None:
        self.folder = folder
        self.redactor = redactor
        folder.makedirs("layers")
        line = canonical_json(run)
        if redactor.finds_in_json(line):
            line = canonical_json(redactor.json(run, member="run.json"))
        folder.write_new("run.json", line + b"\n")
        self.events = EventLog(folder, folder.run_id, time.monotonic, redactor=redactor)
        self.layers = {name: LayerLog(folder, name, folder.run_id, redactor) for name in LAYERS}
        self.feed = Feed(folder.path / EVENTS)

    @property
    def path(self) -> Path:
        return self.folder.path

    def health(
        self,
        *,
        filesystem: LayerHealth,
        observed: Mapping[str, bool],
        isolation: tuple[str, ...],
        notes: tuple[str, ...],
        lost: int,
    ) -> Health:
        """What each layer saw and lost. Nothing is claimed that no collector has shown."""
        return health_document(
            self.folder.run_id,
            PLATFORM,
            {
                "process": self._process(observed["process"], lost),
                "filesystem": filesystem,
                "network": absent("not_attempted", blind_spots=("host_network",)),
                "kernel": absent("not_requested"),
                "policy": self._policy(observed["policy"], lost),
                "agent": LayerHealth(),
            },
            guarantees=isolation,
            redaction=self.redactor.summary(),
            notes=notes,
        )

    def _process(self, observed: bool, lost: int) -> LayerHealth:
        if not observed:
            return absent("disabled_by_policy")
        spots = ("descendants_not_listed", "no_cgroup_counters")
        records = self.layers["process"].records
        if lost:
            return clipped("wait4", records, "bad_record", lost=lost, blind_spots=spots)
        return complete("wait4", records, blind_spots=spots)

    def _policy(self, observed: bool, lost: int) -> LayerHealth:
        if not observed:
            return absent("disabled_by_policy")
        records = self.layers["policy"].records
        if lost:
            return clipped("command_guard", records, "bad_record", lost=lost)
        return complete("command_guard", records, blind_spots=("unmediated_actions",))

    def close(self) -> None:
        """Close the files of the record; the folder, and the lock in it, is closed by whoever made it."""
        for layer in self.layers.values():
            layer.close()
        self.events.close()
        self.feed.close()
