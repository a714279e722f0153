"""One file for each kind of observation: `layers/<name>.jsonl`, append-only, numbered without gaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .files import AppendFile
from .folder import RunFolder
from .identity import canonical_json
from .redaction import Redactor

LAYERS = ("process", "filesystem", "network", "kernel", "policy", "agent")


class LayerLog:
    """The stream of one layer. Every record names the command it belongs to, or none."""

    def __init__(self, folder: RunFolder, name: str, run_id: str, redactor: Redactor) -> None:
        self._folder = folder
        self._member = f"layers/{name}.jsonl"
        self._file: AppendFile | None = None
        self._schema = f"fsmrt.layer.{name}.v1"
        self._run_id = run_id
        self._redactor = redactor
        self.records = 0

    def append(self, data: Mapping[str, Any], *, cmd_id: str | None = None) -> None:
        """Write one record. `EvidenceWriteFailed` leaves the log as it was before."""
        record = {
            **data,
            "schema": self._schema,
            "run_id": self._run_id,
            "seq": self.records,
            "cmd_id": cmd_id,
        }
        if self._file is None:
            self._file = self._folder.append_file(self._member)
        line = canonical_json(record)
        if self._redactor.finds_in_json(line):
            plain = msgspec.to_builtins(record, str_keys=True)
            line = canonical_json(self._redactor.json(plain, member=self._member))
        self._file.write(line + b"\n")
        self.records += 1

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
