"""A gibibyte of output: straight into a file, through a pipe, and through the runtime's spool and redaction."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from bench import fresh
from bench.harness import Goal, Options, Row, Sample, Variant
from bench.programs import ROOT
from bench.workbench import Discard, command, host_sandbox, redactor
from fsmrt.evidence.folder import RunFolder
from fsmrt.evidence.spool import Spool

GIB = 1 << 30
BLOCK = 1 << 16
FLOOR = "child to file"


def repeated(*formats: bytes) -> bytes:
    """A block of such lines, each with numbers of its own."""
    lines = (
        line.replace(b"@", b"%d" % (number * 7919 % 9973))
        for number in range(BLOCK // 16)
        for line in formats
    )
    return b"\n".join(lines)[: BLOCK - 1] + b"\n"


CONTENTS = {
    "yes": b"y\n" * (BLOCK // 2),
    "compiler": repeated(b"[@/2048] CC src/module_@.c -> build/obj/unit_@.o (cache miss, @ ms)"),
    "test runner": repeated(
        b"tests/evidence/test_spool.py::test_that_something_holds[@-trio] PASSED    [ @%]",
        b"tests/evidence/test_folder.py::TestLinks::test_no_link_misleads_it[@] PASSED    [ @%]",
    ),
    "server": repeated(
        b'10.0.0.@ - - [02/Jan/2024:10:00:@ +0000] "GET /api/v1/items/@?page=@&sort=name HTTP/1.1" 200 @',
        b"2024-01-02 10:00:@,@ INFO  server.handler: connected to http://backend:8080/health in @ ms",
    ),
    "package manager": repeated(
        b"Collecting package-@>=1.2 (from -r requirements.txt (line @))",
        b"  Downloading https://files.example.org/packages/@/package_@-py3-none-any.whl (@ kB)",
        b"     |################################| @ kB @.@ MB/s eta 0:00:01",
    ),
    "source code": b"".join(map(Path.read_bytes, sorted(ROOT.glob("fsmrt/sandbox/*.py"))))[:BLOCK],
}
"""What commands print: no secret in any of it, which is the usual case, and what a search has to be fast at. The
last one repeats nothing, so that no processor learns to foresee it: the slowest text there is."""

CHATTERBOX = f"""
import os, sys
left = int(sys.argv[1])
block = open(sys.argv[2], "rb").read({BLOCK})
while left > 0:
    left -= os.write(1, block[:left])
"""


@contextmanager
def opened(options: Options) -> Iterator[Row]:
    size = str(round(GIB * options.scale))

    def of(function: str, content: str) -> partial[Sample]:
        return partial(fresh.measure, __name__, function, size, content)

    yield Row(
        name="output",
        about=f"seconds for {int(size) / GIB:.3g} GiB of a command's output",
        variants=(
            Variant(FLOOR, of("to_file", "compiler")),
            Variant("pipe, read and dropped", of("through_pipe", "compiler")),
            Variant("fsmrt sandbox alone", of("through_sandbox", "compiler")),
            *(Variant(f"fsmrt: {content}", of("through_spool", content)) for content in CONTENTS),
        ),
        goals=(
            *(Goal(variant=f"fsmrt: {content}", over=FLOOR, at_most=2.5) for content in CONTENTS),
            Goal(variant="fsmrt: *", metric="rss_growth_mib", by="max", at_most=8),
        ),
        rounds=5,
    )


def chatterbox(size: str, content: str, folder: str) -> list[str]:
    """The command: prints `size` bytes, the same block again and again."""
    block = Path(folder, "block")
    block.write_bytes(CONTENTS[content])
    return [sys.executable, "-S", "-E", "-c", CHATTERBOX, size, os.fspath(block)]


def to_file(size: str, content: str) -> Sample:
    with TemporaryDirectory(prefix="bench-output-") as folder, open(os.path.join(folder, "out"), "wb") as out:
        argv = chatterbox(size, content, folder)
        start = time.perf_counter()
        subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, check=True)
        seconds = time.perf_counter() - start
        _must_be(os.fstat(out.fileno()).st_size, size)
    return Sample(seconds)


def through_pipe(size: str, content: str) -> Sample:
    with TemporaryDirectory(prefix="bench-output-") as folder:
        argv = chatterbox(size, content, folder)
        start = time.perf_counter()
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0) as child:
            assert child.stdout is not None
            total = sum(map(len, iter(partial(child.stdout.read, BLOCK), b"")))
        seconds = time.perf_counter() - start
    _must_be(total, size)
    return Sample(seconds)


def through_sandbox(size: str, content: str) -> Sample:
    with TemporaryDirectory(prefix="bench-output-") as folder:
        return Sample(anyio.run(_read, chatterbox(size, content, folder), Discard(), backend="trio"))


def through_spool(size: str, content: str) -> Sample:
    with TemporaryDirectory(prefix="bench-output-") as name, RunFolder.create(Path(name), "run") as folder:
        spool = Spool(folder, "stdout.txt", redactor().stream("stdout.txt"))
        seconds = anyio.run(_read, chatterbox(size, content, name), spool, backend="trio")
        begun = time.perf_counter()
        facts = spool.close()
        seconds += time.perf_counter() - begun
    _must_be(facts.bytes_total, size)
    return Sample(seconds)


async def _read(argv: list[str], sink: Discard | Spool) -> float:
    begun = time.perf_counter()
    async with (
        host_sandbox() as sandbox,
        sandbox.command(command(1, tuple(argv), dict(os.environ)), sink, Discard()) as running,
    ):
        await running.wait()
    return time.perf_counter() - begun


def _must_be(total: int, size: str) -> None:
    if total != int(size):
        raise RuntimeError(f"{total} bytes arrived, not {size}")
