"""A measurement in a process of its own, so that its memory and processor time are its own.

`python -m bench.fresh MODULE FUNCTION ARG...` calls the function, which returns a `Sample`, and prints it as JSON
together with what the process itself used.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from .harness import Sample
from .programs import ROOT

MIB = 1 << 20


def measure(module: str, function: str, *arguments: str) -> Sample:
    """The sample of `MODULE.FUNCTION(*arguments)`, with the counts `own_cpu`, `peak_rss_mib`, `rss_growth_mib`."""
    argv = [sys.executable, "-m", "bench.fresh", module, function, *arguments]
    done = subprocess.run(argv, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(argv)}: exit {done.returncode}\n{done.stderr.decode(errors='replace')}"
        )
    return msgspec.json.decode(done.stdout, type=Sample)


def _peak_rss() -> int:
    """Bytes. From `VmHWM`, which begins anew with each program; `ru_maxrss` remembers the parent's."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise RuntimeError("/proc/self/status has no VmHWM")
    return int(found.group(1)) * 1024


def main() -> int:
    module, function, *arguments = sys.argv[1:]
    work = getattr(importlib.import_module(module), function)
    rss, cpu = _peak_rss(), time.process_time()
    sample: Sample = work(*arguments)
    own = {
        "own_cpu": time.process_time() - cpu,
        "peak_rss_mib": _peak_rss() / MIB,
        "rss_growth_mib": (_peak_rss() - rss) / MIB,
    }
    print(msgspec.json.encode(Sample(sample.seconds, {**sample.counts, **own})).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
