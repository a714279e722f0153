"""A whole run of fifty commands beside a shell script of the same fifty: what the evidence costs a command."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.harness import Goal, Missing, Options, Row, Sample, Variant
from bench.programs import has_command_line, no_command_line, repository_of, run_on_host, run_program

FEW, MANY = 1, 50
FLOOR, FSMRT, PEER = "raw script", "fsmrt run", "other runner"
PEER_VARIABLE = "FSMRT_BENCH_PEER"

RunCommands = Callable[[Path], None]


@contextmanager
def opened(options: Options) -> Iterator[Row]:
    with TemporaryDirectory(prefix="bench-runner-") as name:
        folder = Path(name)
        few, many = (repository_of(folder / str(n), ["true"] * n) for n in (FEW, MANY))
        yield Row(
            name="runner",
            about=f"seconds a command, from runs of {FEW} and of {MANY} commands; overhead is over the raw script",
            variants=(
                _per_command(FLOOR, _script, few, many),
                _of_fsmrt(folder / "artifacts", few, many),
                _of_peer(few, many),
            ),
            goals=(Goal(variant=FSMRT, metric="overhead", over=PEER, at_most=0.25),),
            rounds=10,
        )


def _per_command(name: str, run: RunCommands, few: Path, many: Path) -> Variant:
    """What starting and ending cost is the same for few and many, so the difference is the commands' own."""

    def marginal(run: RunCommands) -> float:
        return max(0.0, _seconds(run, many) - _seconds(run, few)) / (MANY - FEW)

    def measure() -> Sample:
        own = marginal(run)
        return Sample(own, {"overhead": max(0.0, own - marginal(_script))})

    return Variant(name, measure)


def _seconds(run: RunCommands, repository: Path) -> float:
    start = time.perf_counter()
    run(repository)
    return time.perf_counter() - start


def _script(repository: Path) -> None:
    """Each command in a shell of its own, as a contract's commands are."""
    number = int(repository.name)
    run_program(["/bin/sh", "-ec", "/bin/sh -c true\n" * number])


def _of_fsmrt(artifacts: Path, few: Path, many: Path) -> Variant | Missing:
    if not has_command_line():
        return no_command_line(FSMRT)
    fresh = (artifacts / str(number) for number in count())
    return _per_command(
        FSMRT, lambda repository: run_program(run_on_host(repository, next(fresh))), few, many
    )


def _of_peer(few: Path, many: Path) -> Variant | Missing:
    """Another runner of the same contracts, as a command in which {repository} stands for the folder."""
    command = os.environ.get(PEER_VARIABLE)
    if not command:
        return Missing(PEER, f"{PEER_VARIABLE} does not say how to run it")

    def run(repository: Path) -> None:
        run_program([word.replace("{repository}", str(repository)) for word in shlex.split(command)])

    return _per_command(PEER, run, few, many)
