"""One child process of ours: started cheaply, its output drained always, its end seen exactly once.

`subprocess.Popen` (vfork, no `preexec_fn`) starts it in a session of its own. One `epoll` watches its pidfd
and both pipes, so that a single task waits for everything and no helper task or thread exists. The process is
collected by `wait4`, which also tells what it used.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import select
import signal
import subprocess
import time
from types import TracebackType
from typing import Self

import anyio

from ..errors import SandboxLost, SpawnFailed
from ..messages import Command, Exit, Usage
from .base import DRAIN_SECONDS, Sink, WaitOutcome

_READ_SIZE = 1 << 16
_READS_PER_TURN = 16
"""At most 1 MiB of one stream before other tasks get the loop."""

_WIDE_PIPE = 1 << 18
_WIDEN_AFTER = 1 << 18
"""A stream that has carried this much gets a wider pipe; most never do, and pipe pages are scarce."""


class _Stream:
    """Our end of one output pipe."""

    def __init__(self, sink: Sink) -> None:
        self._sink: Sink | None = sink
        self.failure: Exception | None = None
        """What the sink raised, until somebody has raised it again."""
        self.total = 0
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.reader, False)

    def close_writer(self) -> None:
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def close(self) -> None:
        self.close_writer()
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1

    def pump(self, *, to_the_end: bool = False) -> bool:
        """Move what is there to the sink. False at the end of the stream."""
        for _ in range(_READS_PER_TURN):
            try:
                data = os.read(self.reader, _READ_SIZE)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._keep(data)
            self._count(len(data))
            if len(data) < _READ_SIZE and not to_the_end:
                return True  # most likely empty now; the next look costs less than a refused read
        return True

    def _keep(self, data: bytes) -> None:
        """A sink that failed gets nothing more. Reading goes on, or a full disk would keep us from the end."""
        if self._sink is None:
            return
        try:
            self._sink.write(data)
        except Exception as error:
            self._sink, self.failure = None, error

    def _count(self, size: int) -> None:
        before, self.total = self.total, self.total + size
        if before < _WIDEN_AFTER <= self.total:
            with contextlib.suppress(OSError):
                fcntl.fcntl(self.reader, fcntl.F_SETPIPE_SZ, _WIDE_PIPE)


class Process:
    """A started command. Use as a context manager: leaving it closes descriptors, it ends nobody."""

    def __init__(self, command: Command, stdout: Sink, stderr: Sink) -> None:
        self.command = command
        self.drain_cut = False
        self._streams: list[_Stream] = []
        self._open: dict[int, _Stream] = {}
        self._epoll: select.epoll | None = None
        self._pidfd = -1
        self._status: int | None = None
        self._status_lost = False
        self._usage: Usage | None = None
        self.started = time.monotonic()
        self.seconds = 0.0
        try:
            self._prepare(() if command.terminal else (stdout, stderr))
            self._popen = self._spawn()
            self.pid = self._popen.pid
            self._watch()
        except OSError as error:
            self.close()
            raise SandboxLost(f"a command could not be watched: {error.strerror}") from error
        except BaseException:
            self.close()
            raise
        finally:
            for stream in self._streams:
                stream.close_writer()

    def _prepare(self, sinks: tuple[Sink, ...]) -> None:
        """All that can be made before there is a process to lose."""
        for sink in sinks:
            self._streams.append(_Stream(sink))
        self._epoll = select.epoll()
        self._open = {stream.reader: stream for stream in self._streams}
        for reader in self._open:
            self._epoll.register(reader, select.EPOLLIN)

    def _spawn(self) -> subprocess.Popen[bytes]:
        out, err = (stream.writer for stream in self._streams) if self._streams else (None, None)
        try:
            return subprocess.Popen(  # noqa: S603 -- running the contract's commands is what this is for
                self.command.argv,
                cwd=self.command.cwd,
                env=self.command.env,
                stdin=None if self.command.terminal else subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=not self.command.terminal,
                process_group=0 if self.command.terminal else None,
            )
        except OSError as error:
            raise SpawnFailed(self.command.argv[0], error) from error
        except ValueError as error:  # a NUL byte, or a name no variable can have
            raise SpawnFailed(self.command.argv[0], OSError(errno.EINVAL, str(error))) from error

    def _watch(self) -> None:
        assert self._epoll is not None
        try:
            self._pidfd = os.pidfd_open(self.pid)
            self._epoll.register(self._pidfd, select.EPOLLIN)
        except ProcessLookupError:
            self._lose_status()
        except OSError:
            self._kill_unwatched()
            raise

    def _kill_unwatched(self) -> None:
        # What it may have forked in these microseconds carries its mark, and is looked for by it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.kill()
        self._popen.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every descriptor. A process that was not collected stays for `collect_now`."""
        for stream in self._streams:
            stream.close()
        if self._epoll is not None:
            self._epoll.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    @property
    def exited(self) -> bool:
        return self._status is not None or self._status_lost

    @property
    def printed(self) -> int:
        """Bytes of both streams so far."""
        return sum(stream.total for stream in self._streams)

    async def wait(self) -> WaitOutcome:
        """Until the process has ended and its output is drained, or it printed more than it may."""
        while not self.exited:
            await self._turn()
            self.check_sinks()
            if self._printed_too_much:
                return "output_limit"
        await self.drain()
        self.check_sinks()
        return "output_limit" if self._printed_too_much else "exited"

    @property
    def _printed_too_much(self) -> bool:
        limit = self.command.output_bytes
        return limit is not None and self.printed > limit

    def check_sinks(self) -> None:
        """Raise what a sink raised meanwhile. Each failure is raised once."""
        for stream in self._streams:
            if stream.failure is not None:
                failure, stream.failure = stream.failure, None
                raise failure

    async def wait_until(self, deadline: float) -> bool:
        """Pump until the process has ended or the loop's clock passes `deadline`; True if it ended."""
        with anyio.CancelScope(deadline=deadline):
            while not self.exited:
                await self._turn()
        return self.exited

    async def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Read what is left of the output; give up on whoever still holds a pipe after `seconds`."""
        for reader in [*self._open]:
            if not self._open[reader].pump(to_the_end=True):
                self._forget(reader)
        if not self._open:
            return
        with anyio.CancelScope(deadline=anyio.current_time() + seconds):
            while self._open:
                await self._turn()
        self.drain_cut = self.drain_cut or bool(self._open)

    async def linger(self, seconds: float) -> None:
        """Let `seconds` pass, reading meanwhile, so that nobody who still prints gets stuck."""
        with anyio.CancelScope(deadline=anyio.current_time() + seconds):
            while self._open:
                await self._turn()
            await anyio.sleep(seconds)

    async def _turn(self) -> None:
        assert self._epoll is not None
        await anyio.wait_readable(self._epoll)
        for descriptor, _ in self._epoll.poll(0):
            if descriptor == self._pidfd:
                self.collect_now()
            elif not self._open[descriptor].pump():
                self._forget(descriptor)

    def _forget(self, reader: int) -> None:
        assert self._epoll is not None
        self._epoll.unregister(reader)
        del self._open[reader]

    def collect_now(self) -> bool:
        """Collect the process if it is over. After this its pid may belong to somebody else."""
        if self.exited:
            return True
        try:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
        except ChildProcessError:
            self._lose_status()
            return True
        if pid == 0:
            return False
        self._status = status
        self._popen.returncode = os.waitstatus_to_exitcode(status)
        self.seconds = time.monotonic() - self.started
        self._usage = _usage(used)
        self._stop_watching()
        return True

    def _lose_status(self) -> None:
        """Somebody else in this program collected our child, or SIGCHLD is ignored: all we know is the end."""
        self._popen.returncode = -1
        self._status_lost = True
        self._stop_watching()

    def _stop_watching(self) -> None:
        if self._epoll is not None and not self._epoll.closed and self._pidfd >= 0:
            self._epoll.unregister(self._pidfd)

    def exit(self, *, leftover: tuple[int, ...], cgroup: dict[str, int | None] | None) -> Exit:
        """The facts of the end, once `exited`. Raises `SandboxLost` if somebody else took the status."""
        if self._status_lost:
            raise SandboxLost(f"the exit status of process {self.pid} was taken by somebody else")
        if self._status is None:
            raise SandboxLost(f"process {self.pid} has not ended")
        signaled = os.WIFSIGNALED(self._status)
        return Exit(
            code=None if signaled else os.WEXITSTATUS(self._status),
            signal=os.WTERMSIG(self._status) if signaled else None,
            core_dumped=os.WCOREDUMP(self._status),
            seconds=self.seconds,
            drain_cut=self.drain_cut,
            usage=self._usage,
            cgroup=cgroup,
            leftover_pids=leftover,
        )


def _usage(used: resource.struct_rusage) -> Usage:
    return Usage(
        utime_us=round(used.ru_utime * 1e6),
        stime_us=round(used.ru_stime * 1e6),
        maxrss_kib=_own_peak(used.ru_maxrss),
        minflt=used.ru_minflt,
        majflt=used.ru_majflt,
        inblock=used.ru_inblock,
        oublock=used.ru_oublock,
        nvcsw=used.ru_nvcsw,
        nivcsw=used.ru_nivcsw,
    )


def _own_peak(maxrss: int) -> int | None:
    """A child's peak starts at the peak of the process it was forked from; only more than that is its own."""
    return maxrss if maxrss > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss else None
