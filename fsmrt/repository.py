"""The working tree of the target: what is read from it, moved aside in it, and who may use it.

Every path that a contract or a command names is checked here again when it is used: resolved with its links,
inside the repository, of the right type. Reading follows no link that leads out.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from .contract.metrics import MAX_METRICS_BYTES
from .contract.scripts import MAX_SCRIPT_BYTES, FileText

CONTRACT_DIR = ".aider_fsm"
_CONTRACT_LIMIT = (1 << 20) + 1
"""One byte more than a contract file may have: the reader sees that it is too large without all of it."""

_GIT_SECONDS = 10.0


class PathProblem(msgspec.Struct, frozen=True):
    """Why a path cannot be used: the message, in the words of the contract reference."""

    message: str


class MovedAside(msgspec.Struct, frozen=True):
    """A file that an earlier stage, run or commit had left where a verdict is expected."""

    path: str
    kind: str
    size: int
    mtime: float
    sha256: str | None
    kept_as: str


class GitState(msgspec.Struct, frozen=True):
    """What the repository's own version control says; None where it says nothing."""

    commit: str | None = None
    dirty: bool | None = None


class Repository:
    """A local working tree. `root` is absolute and has no links."""

    def __init__(self, root: Path) -> None:
        try:
            self.root = root.resolve(strict=True)
        except FileNotFoundError:  # named whole, not by its first missing part
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(root)) from None
        if not self.root.is_dir():
            raise NotADirectoryError(f"{root} is not a directory")
        self.protected: tuple[Path, ...] = ()
        """Files and folders no action may write: the contract, and the evidence."""

    def read_contract_file(self, relative: str) -> bytes | PathProblem | None:
        """The bytes of a contract file, None if there is none. Never more than the reader would accept."""
        path = _resolved(self.root / relative)
        if not self.inside(path):
            return PathProblem(f"{relative} leads out of the repository")
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            return PathProblem(f"{relative} cannot be read: {error.strerror}")
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return PathProblem(f"{relative} is not a regular file")
            return os.read(descriptor, _CONTRACT_LIMIT)
        except OSError as error:
            return PathProblem(f"{relative} cannot be read: {error.strerror}")
        finally:
            os.close(descriptor)

    def contract_bytes(self, relative: str) -> bytes:
        """The bytes of a contract file for the record; empty where there are none."""
        data = self.read_contract_file(relative)
        return data if isinstance(data, bytes) else b""

    def try_lock(self) -> RepositoryLock | None:
        """The right to run here, or None while another run has it. OSError where no lock can be made."""
        folder = self.root / CONTRACT_DIR
        folder.mkdir(exist_ok=True)
        if not self.inside(_resolved(folder)):
            raise OSError(errno.ELOOP, f"{CONTRACT_DIR} leads out of the repository")
        descriptor = os.open(
            folder / "run.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return RepositoryLock(descriptor, folder / "run.lock")

    def inside(self, path: Path) -> bool:
        return path == self.root or self.root in path.parents

    def workdir(self, raw: str | None) -> Path | PathProblem:
        """Where a stage's commands start: inside the repository, links resolved, existing."""
        if not raw:
            return self.root
        path = _resolved(self.root / Path(raw).expanduser())
        if not self.inside(path):
            return PathProblem(f"workdir must be within repo: {path} (repo={self.root})")
        if not os.path.isdir(path):
            return PathProblem(f"workdir does not exist: {path}")
        return path

    def read_script(self, path: str) -> FileText | None:
        """A file for the script audit, as far as the audit reads; None if it is not a file of ours."""
        resolved = _resolved(Path(path))
        if not self.inside(resolved) or not resolved.is_file():
            return None
        with open(_unwaiting(resolved), "rb") as file:
            facts = os.fstat(file.fileno())
            return (
                FileText(file.read(MAX_SCRIPT_BYTES), facts.st_size) if stat.S_ISREG(facts.st_mode) else None
            )

    def read_output(self, relative: str) -> bytes | PathProblem:
        """A file a stage was expected to write: regular, inside the repository, of bounded size."""
        resolved = _resolved(self.root / relative)
        if not self.inside(resolved):
            return PathProblem(f"metrics_outside_repo: {relative}")
        try:
            descriptor = os.open(resolved, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return PathProblem(f"metrics_file_missing: {relative}")
        except OSError as error:
            return PathProblem(f"failed_to_read: {relative}: {error.strerror}")
        try:
            return _read_regular(descriptor, relative)
        finally:
            os.close(descriptor)

    def digest_of(self, relative: str) -> str | None:
        """SHA-256 of a regular file inside the repository, None if there is none."""
        content = self.read_output(relative)
        return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else None

    def move_aside(self, relatives: Iterable[str], to: Path) -> list[MovedAside]:
        """Move what is there into `to`; a link is moved as a link and never followed.

        What lies outside, behind a link among its folders, stays: nobody will read it as an output either.
        """
        moved = []
        for relative in dict.fromkeys(relatives):
            source = self.root / relative
            if self.inside(_resolved(source.parent)) and (source.is_symlink() or source.exists()):
                moved.append(_move(source, relative, to))
        return moved

    def write_file(self, relative: str, content: str) -> PathProblem | None:
        """What a `write_file` action does: atomically, parents created, inside, and nothing protected."""
        path = self.root / relative
        resolved = _resolved(path.parent) / path.name
        if not relative or not self.inside(resolved) or resolved.is_dir():
            return PathProblem(f"path_outside_repo: {relative}")
        if self._protected(resolved):
            return PathProblem(f"path_is_protected: {relative}")
        temporary = resolved.with_name(f".{resolved.name}.{os.getpid()}.new")
        try:
            resolved.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(content, encoding="utf-8")
            os.replace(temporary, resolved)
        except OSError as error:
            with suppress(OSError):  # where nothing can be written, nothing can be removed
                temporary.unlink()
            return PathProblem(f"cannot write {relative}: {error.strerror}")
        return None

    def remove(self, relative: str) -> PathProblem | None:
        """Take a contract file out of the repository; one that is gone already is fine."""
        try:
            (self.root / relative).unlink(missing_ok=True)
        except OSError as error:
            return PathProblem(f"{relative} cannot be removed: {error.strerror}")
        return None

    def _protected(self, resolved: Path) -> bool:
        return resolved.name == "PLAN.md" or any(
            resolved == kept or kept in resolved.parents for kept in self.protected
        )

    def contract_digests(self, relatives: Iterable[str]) -> dict[str, str]:
        """SHA-256 of each of these files that exists, by relative path."""
        found = ((relative, self.digest_of(relative)) for relative in sorted(set(relatives)))
        return {relative: digest for relative, digest in found if digest is not None}

    def stage_scripts(self) -> list[str]:
        """Every file below `.aider_fsm/stages`, by relative path."""
        folder = self.root / CONTRACT_DIR / "stages"
        if folder.is_symlink() or not folder.is_dir():
            return []
        return sorted(str(path.relative_to(self.root)) for path in folder.rglob("*") if path.is_file())

    def git_state(self) -> GitState:
        """Commit and dirtiness. Monitors, hooks and submodules are off; filters of its own config may still run."""
        if not (self.root / ".git").exists():
            return GitState()
        commit = self._git("rev-parse", "--verify", "-q", "HEAD")
        status = self._git(
            "status",
            "--porcelain",
            "--untracked-files=normal",
            "--ignore-submodules=all",
            "--",
            ".",
            f":!{CONTRACT_DIR}",
        )
        return GitState(
            commit=commit.strip() or None if commit is not None else None,
            dirty=bool(status.strip()) if status is not None else None,
        )

    def _git(self, *arguments: str) -> str | None:
        quiet = (
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "core.untrackedCache=false",
        )
        try:
            done = subprocess.run(  # noqa: S603
                ["git", *quiet, *arguments],  # noqa: S607 -- the caller's own git, as in their shell
                cwd=self.root,
                env={**_without_git(os.environ), "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_GIT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _without_git(environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment less what would point git at another repository."""
    return {name: value for name, value in environ.items() if not name.startswith("GIT_")}


class RepositoryLock:
    """Held from before the first command until after the last; the kernel gives it back if we die."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _resolved(path: Path) -> Path:
    """The path with its links followed. One that leads in a circle stays as it is, and cannot be opened."""
    return Path(os.path.realpath(path))


def _read_regular(descriptor: int, relative: str) -> bytes | PathProblem:
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        return PathProblem(f"failed_to_read: {relative}: not a regular file")
    if facts.st_size > MAX_METRICS_BYTES:
        return PathProblem(f"failed_to_read: {relative}: larger than {MAX_METRICS_BYTES} bytes")
    try:
        return os.read(descriptor, MAX_METRICS_BYTES + 1)
    except OSError as error:
        return PathProblem(f"failed_to_read: {relative}: {error.strerror}")


def _move(source: Path, relative: str, to: Path) -> MovedAside:
    facts = source.lstat()
    kept = to / relative
    kept.parent.mkdir(parents=True, exist_ok=True)
    digest = _digest(source) if stat.S_ISREG(facts.st_mode) and facts.st_size <= MAX_METRICS_BYTES else None
    try:
        os.rename(source, kept)
    except OSError:
        # Another file system: copy, then remove. `move` does not follow links either.
        shutil.move(str(source), str(kept))
    return MovedAside(
        path=relative,
        kind=_kind(facts.st_mode),
        size=facts.st_size,
        mtime=facts.st_mtime,
        sha256=digest,
        kept_as=str(kept),
    )


def _digest(path: Path) -> str:
    """Of what could be a verdict, which is never larger than this; nobody waits for what grows meanwhile."""
    with open(_unwaiting(path), "rb") as file:
        return hashlib.sha256(file.read(MAX_METRICS_BYTES)).hexdigest()


def _unwaiting(path: Path) -> int:
    """A descriptor to read from, without waiting: a pipe may have taken the place of what was looked at."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "link"
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "special"
