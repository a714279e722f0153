"""`python -m bench [row...]`: measure the rows named, or all of them."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

import msgspec

from .harness import OpenRow, Options, Report, run
from .rows import ROWS
from .text import render


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure what fsmrt costs.")
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help="one of: " + ", ".join(ROWS) + " (default: all)"
    )
    parser.add_argument("--rounds", type=int, help="rounds of each row (default: the row's own number)")
    parser.add_argument("--seed", type=int, default=1, help="of the order within a round (default: 1)")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the full amount of work (default: 1)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the reports to FILE")
    return parser


def opener(name: str) -> OpenRow:
    row: OpenRow = importlib.import_module(ROWS[name]).opened
    return row


def measured(name: str, options: Options) -> Report:
    with opener(name)(options) as row:
        return run(row, options, time.monotonic)


def main() -> int:
    asked = parser().parse_args()
    if unknown := set(asked.rows) - set(ROWS):
        parser().error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    options = Options(rounds=asked.rounds, seed=asked.seed, scale=asked.scale)
    reports = []
    for name in asked.rows or ROWS:
        reports.append(measured(name, options))
        print(render(reports[-1]), flush=True)
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(reports), indent=2) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
