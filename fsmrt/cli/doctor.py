"""`fsmrt doctor`: what this machine can do for a run, each finding with its fix."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from ..errors import EvidenceError
from ..evidence.redaction import load_or_create_key
from ..lease import state_dir
from ..sandbox.cgroup import own_group, why_unavailable
from ..settings import CORE_LAYERS, LATER_SANDBOXES
from .configuration import state_environ
from .output import Output, console

Level = Literal["ok", "warn", "missing"]

PREFLIGHT = 4
OLDEST_PYTHON = (3, 11)
LITTLE_SPACE = 1 << 30
NO_SPACE = 64 << 20
_SIGNS: dict[Level, tuple[str, str]] = {
    "ok": ("✓", "green"),
    "warn": ("·", "yellow"),
    "missing": ("✗", "red"),
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `missing` is for what a run on the host cannot do without."""

    name: str
    level: Level
    code: str
    text: str
    fix: str | None = None


def main(args: Namespace) -> int:
    """0 unless something that runs on the host require is missing; then 4."""
    screen = console(no_color=args.no_color)
    findings = list(examine())
    ok = all(finding.level != "missing" for finding in findings)
    if args.json:
        screen.out.json({"schema": "fsmrt.doctor.v1", "ok": ok, "findings": findings})
    else:
        _draw(findings, screen.out)
    return 0 if ok else PREFLIGHT


def examine() -> Iterator[Finding]:
    """Every finding, in the order in which a run needs things."""
    for look in _LOOKS:
        yield from look()


def _draw(findings: list[Finding], out: Output) -> None:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        sign, style = _SIGNS[finding.level]
        code = "" if finding.level == "ok" else f" {out.paint(f'[{finding.code}]', 'dim')}"
        out.line(f"{out.paint(out.mark(sign), style)} {finding.name:<{width}}  {finding.text}{code}")
        if finding.fix:
            out.line(f"  {' ' * width}  {out.paint(out.mark('→'), 'cyan')} {finding.fix}")


def _python() -> Iterator[Finding]:
    text = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] >= OLDEST_PYTHON:
        yield Finding(name="python", level="ok", code="python", text=text)
    else:
        yield Finding(
            name="python",
            level="missing",
            code="python_too_old",
            text=text,
            fix="install Python 3.11 or newer",
        )


def _platform() -> Iterator[Finding]:
    text = f"{platform.system()} {platform.release()} {platform.machine()}"
    if sys.platform == "linux":
        yield Finding(name="platform", level="ok", code="linux", text=text)
    else:
        yield Finding(
            name="platform", level="missing", code="not_linux", text=text, fix="use a Linux virtual machine"
        )


def _containment() -> Iterator[Finding]:
    why = why_unavailable()
    if why is None:
        yield Finding(
            name="containment", level="ok", code="cgroup", text=f"cgroup v2 below {own_group()}: exact"
        )
        return
    yield Finding(
        name="containment",
        level="warn",
        code="no_cgroup",
        text=f"as subreaper, by a walk over processes: best effort, not exact ({why})",
        fix="start fsmrt by `systemd-run --user --scope -p Delegate=yes`, or in a container with a writable cgroup",
    )


def _pidfd() -> Iterator[Finding]:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (OSError, AttributeError) as error:
        yield Finding(
            name="pidfd",
            level="missing",
            code="no_pidfd",
            text=f"pidfd_open does not work: {error}",
            fix="use Linux 5.3 or newer, and a seccomp profile that allows pidfd_open",
        )
    else:
        yield Finding(
            name="pidfd", level="ok", code="pidfd", text="processes can be waited for without signals"
        )


def _shell() -> Iterator[Finding]:
    if os.access("/bin/sh", os.X_OK):
        yield Finding(name="shell", level="ok", code="sh", text="/bin/sh")
    else:
        yield Finding(
            name="shell",
            level="missing",
            code="no_sh",
            text="/bin/sh is not there",
            fix="install a POSIX shell",
        )


def _state() -> Iterator[Finding]:
    try:
        folder = state_dir(state_environ())
        load_or_create_key(folder)
    except (OSError, EvidenceError) as error:
        yield Finding(
            name="state folder",
            level="missing",
            code="state_unusable",
            text=str(error),
            fix="name a folder that you can write with FSMRT_STATE_DIR",
        )
        return
    yield from _writable(folder)
    yield Finding(name="redaction key", level="ok", code="key", text="private to you")


def _writable(folder: Path) -> Iterator[Finding]:
    if os.access(folder, os.W_OK | os.X_OK):
        yield Finding(name="state folder", level="ok", code="state", text=str(folder))
    else:
        yield Finding(
            name="state folder",
            level="missing",
            code="state_not_writable",
            text=f"{folder} cannot be written",
            fix=f"chmod u+rwx {folder}, or name another with FSMRT_STATE_DIR",
        )


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / (1 << 30):.1f} GiB free here"
    if free >= LITTLE_SPACE:
        yield Finding(name="disk", level="ok", code="disk", text=text)
        return
    yield Finding(
        name="disk",
        level="warn" if free >= NO_SPACE else "missing",
        code="disk_low",
        text=text,
        fix="make room, or keep evidence elsewhere with --artifacts",
    )


def _git() -> Iterator[Finding]:
    git = shutil.which("git")
    if git is None:
        yield Finding(
            name="git",
            level="warn",
            code="no_git",
            text="not there: results will not name a commit",
            fix="install git",
        )
    else:
        yield Finding(name="git", level="ok", code="git", text=git)


def _terminal() -> Iterator[Finding]:
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        yield Finding(name="terminal", level="ok", code="terminal", text="a live view is possible")
    else:
        yield Finding(
            name="terminal", level="ok", code="no_terminal", text="none: runs print one line a change"
        )


def _sandboxes() -> Iterator[Finding]:
    yield Finding(
        name="sandbox host", level="ok", code="host", text="commands as you, with no wall around them"
    )
    for kind in LATER_SANDBOXES:
        yield Finding(
            name=f"sandbox {kind}",
            level="warn",
            code="not_in_this_version",
            text="not in this version of fsmrt",
            fix="contracts in safe mode need --sandbox host until then",
        )


def _layers() -> Iterator[Finding]:
    seen = [layer for layer in CORE_LAYERS if layer not in ("network", "agent")]
    yield Finding(name="observation", level="ok", code="layers", text=f"layers {', '.join(seen)}")


_LOOKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python,
    _platform,
    _shell,
    _pidfd,
    _containment,
    _state,
    _disk,
    _git,
    _terminal,
    _sandboxes,
    _layers,
)
