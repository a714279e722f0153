"""One thing wrong with a contract file: where, what, and what to write instead."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["error", "strict", "warning"]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """`error` stops everything; `strict` is an error for `fsmrt check` only; `warning` is a remark."""

    level: Level
    code: str
    file: str
    line: int
    """1-based; 0 where no line applies (a missing file)."""
    column: int
    path: str
    """JSON path of the value, such as `$.evaluation.run_cmds[1]`."""
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.level} {self.code}: {self.path}: {self.message}"
