"""One child process of ours: started cheaply, its output drained always, its end seen exactly once.

`subprocess.Popen` (vfork, no `preexec_fn`) starts it in a session of its own. One `epoll` watches its pidfd
and both pipes, so that a single task waits for everything and no helper task or thread exists. The process is
collected by `wait4`, which also tells what it used.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
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
        self.sink = sink
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
            self.sink.write(data)
            self._count(len(data))
            if len(data) < _READ_SIZE and not to_the_end:
                return True  # most likely empty now; the next look costs less than a refused read
        return True

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
        self._streams = () if command.terminal else (_Stream(stdout), _Stream(stderr))
        self._epoll: select.epoll | None = None
        self._pidfd = -1
        self._status: int | None = None
        self._usage: Usage | None = None
        self.started = time.monotonic()
        self.seconds = 0.0
        try:
            self._popen = self._spawn()
            self.pid = self._popen.pid
            self._watch()
        except BaseException:
            self.close()
            raise
        finally:
            for stream in self._streams:
                stream.close_writer()

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

    def _watch(self) -> None:
        self._pidfd = os.pidfd_open(self.pid)
        self._epoll = select.epoll()
        self._epoll.register(self._pidfd, select.EPOLLIN)
        self._open = {stream.reader: stream for stream in self._streams}
        for reader in self._open:
            self._epoll.register(reader, select.EPOLLIN)

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
        return self._status is not None

    @property
    def printed(self) -> int:
        """Bytes of both streams so far."""
        return sum(stream.total for stream in self._streams)

    async def wait(self) -> WaitOutcome:
        """Until the process has ended and its output is drained, or it printed more than it may."""
        limit = self.command.output_bytes
        while not self.exited:
            await self._turn()
            if limit is not None and self.printed > limit:
                return "output_limit"
        await self.drain()
        return "exited"

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
        except ChildProcessError as error:
            # Somebody else in this process collected our child, or SIGCHLD is ignored: the status is gone.
            self._popen.returncode = -1
            raise SandboxLost(f"the exit status of process {self.pid} was taken by somebody else") from error
        if pid == 0:
            return False
        self._status = status
        self._popen.returncode = os.waitstatus_to_exitcode(status)
        self.seconds = time.monotonic() - self.started
        self._usage = _usage(used)
        if self._epoll is not None and not self._epoll.closed and self._pidfd >= 0:
            self._epoll.unregister(self._pidfd)
        return True

    def exit(self, *, leftover: tuple[int, ...], cgroup: dict[str, int | None] | None) -> Exit:
        """The facts of the end. Only after the process was collected."""
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
