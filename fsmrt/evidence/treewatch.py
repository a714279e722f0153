"""The file-system layer of a run: a look at the tree before and after each stage, and what differs.

The look after one stage is the look before the next. All looking happens in a worker thread, which nobody waits
for once the run is cancelled: it only reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
from anyio import to_thread

from ..messages import LayerRecords
from .filesystem import EXCLUDES, Change, SecretsCheck, Snapshot, diff, snapshot
from .health import LayerHealth, absent, clipped, complete
from .identity import canonical_json

_BACKEND = "snapshot_diff"

Emit = Callable[[LayerRecords], Awaitable[None]]


class TreeWatch:
    """Looks at `root` around stages and emits what changed."""

    def __init__(
        self,
        root: Path,
        emit: Emit,
        *,
        enabled: bool = True,
        excludes: Sequence[str] = (),
        secrets_check: SecretsCheck | None = None,
    ) -> None:
        self._root = root
        self._emit = emit
        self._enabled = enabled
        self._excludes = (*EXCLUDES, *excludes)
        self._secrets_check = secrets_check
        self._last: Snapshot | None = None
        self._trouble: str | None = None
        self._behind = False
        """Whether the last look was given up: what changed since the one before is not recorded."""
        self._records = 0

    @property
    def digest(self) -> str | None:
        """What the tree was at the last look, its version control aside; None without a complete look."""
        if self._last is None or not self._last.complete:
            return None
        entries = {
            path: [
                entry.type,
                entry.mode,
                entry.size if entry.type == "file" else 0,
                entry.sha256,
                entry.target,
            ]
            for path, entry in self._last.entries.items()
            if path != ".git" and not path.startswith(".git/")
        }
        return hashlib.sha256(canonical_json(entries)).hexdigest()

    async def before_stage(self) -> None:
        """Make sure there is something to compare with."""
        if self._enabled and self._last is None:
            self._note(await to_thread.run_sync(self._snapshot, None, abandon_on_cancel=True))

    async def after_stage(self, stage: str) -> None:
        """Emit what changed since the last look."""
        if not self._enabled or self._last is None:
            return
        self._behind = True
        now, changes = await to_thread.run_sync(self._compare, self._last, abandon_on_cancel=True)
        self._behind = False
        self._note(now)
        self._records += len(changes)
        if changes:
            await self._emit(
                LayerRecords(layer="filesystem", records=tuple(_record(change, stage) for change in changes))
            )

    # In a worker thread, which may be left to itself: it changes nothing here.

    def _compare(self, before: Snapshot) -> tuple[Snapshot | None, list[Change]]:
        now = self._snapshot(before)
        return now, [] if now is None else diff(before, now)

    def _snapshot(self, previous: Snapshot | None) -> Snapshot | None:
        try:
            return snapshot(
                self._root, excludes=self._excludes, previous=previous, secrets_check=self._secrets_check
            )
        except OSError:
            return None

    def _note(self, seen: Snapshot | None) -> None:
        if seen is None:
            self._trouble = "scan_error"
        else:
            self._last, self._trouble = seen, self._trouble or seen.reason

    @property
    def health(self) -> LayerHealth:
        """What this layer may claim."""
        if not self._enabled:
            return absent("disabled_by_policy")
        if self._last is None:
            return absent("scan_error" if self._trouble else "not_attempted")
        spots = self._last.blind_spots
        if self._trouble == "scan_limit":
            return clipped(_BACKEND, self._records, "scan_limit", blind_spots=spots)
        if self._trouble is not None:
            return clipped(_BACKEND, self._records, "scan_error", blind_spots=spots)
        if self._behind:
            return clipped(_BACKEND, self._records, "drain_incomplete", blind_spots=spots)
        return complete(_BACKEND, self._records, blind_spots=spots)


def _record(change: Change, stage: str) -> dict[str, object]:
    plain = {name: value for name, value in msgspec.to_builtins(change).items() if value is not None}
    return {**plain, "stage": stage}
