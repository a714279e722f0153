"""The programs the rows start: fsmrt's own command line, and a contract of a given number of commands."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .harness import Missing, Sample, Variant

ROOT = Path(__file__).parent.parent
FSMRT = (sys.executable, "-m", "fsmrt.cli")


def is_there(module: str) -> bool:
    """True if the module can be imported; a package around it that is missing counts as no."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def memory() -> str | None:
    """A folder in memory, where there is one: what is measured there is not slowed by a disk."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def has_command_line() -> bool:
    return is_there("fsmrt.cli.__main__")


def no_command_line(name: str) -> Missing:
    return Missing(name, "fsmrt has no command line in this checkout")


def timed_program(name: str, argv: Sequence[str], *, accepts: Sequence[int] = (0,)) -> Variant:
    """How long the program takes from start to end."""

    def measure() -> Sample:
        start = time.perf_counter()
        run_program(argv, accepts)
        return Sample(time.perf_counter() - start)

    return Variant(name, measure)


def run_program(argv: Sequence[str], accepts: Sequence[int] = (0,)) -> None:
    """Run it to its end; a wrong exit code would make the figure meaningless, so it raises."""
    done = subprocess.run(argv, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode not in accepts:
        raise RuntimeError(
            f"{' '.join(argv)}: exit {done.returncode}\n{done.stderr.decode(errors='replace')}"
        )


def repository_of(folder: Path, commands: Sequence[str]) -> Path:
    """A repository whose contract has these commands as its tests."""
    folder.mkdir(parents=True)
    lines = "".join(f"    - '{command}'\n" for command in commands)
    (folder / "pipeline.yml").write_text(f"version: 1\ntests:\n  timeout_seconds: 600\n  cmds:\n{lines}")
    return folder


def run_on_host(repository: Path, artifacts: Path) -> tuple[str, ...]:
    return (*FSMRT, "run", os.fspath(repository), "--sandbox", "host", "--artifacts", os.fspath(artifacts))
