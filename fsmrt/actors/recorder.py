"""The single writer of the record: events, layers, and the small files of commands and stages.

Everybody tells it what happened, in order; its mailbox is bounded, so that a slow disk slows the run and
nothing is dropped. When the disk refuses, room kept for that moment is given back, the run is told to stop, and
the recorder goes on writing what still fits: what it could not write is counted, and the record says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from anyio import to_thread

from ..errors import EvidenceWriteFailed
from ..evidence.events import Event, EventLog
from ..evidence.folder import RunFolder
from ..evidence.layers import LayerLog
from ..evidence.redaction import Redactor
from ..messages import (
    Checkpoint,
    CommandFinished,
    CommandStarted,
    Decision,
    Exit,
    KeptFile,
    LastTry,
    LayerRecords,
    Note,
    Record,
    Refusal,
    SandboxKind,
    StreamReport,
    TryReport,
)
from .tools import pretty

_AT_ONCE = 256 * 1024
"""A file up to this size is redacted on the loop: a worker thread would cost more than it spares."""

_FILES_OF_A_TRY = ("cmd.txt", "stdout.txt", "stderr.txt", "result.json")


class Recorder:
    """The recorder actor. `failure` is the first write error, if there was one."""

    name = "recorder"

    def __init__(
        self,
        folder: RunFolder,
        events: EventLog,
        layers: Mapping[str, LayerLog],
        redactor: Redactor,
        *,
        kind: SandboxKind,
        isolation: tuple[str, ...],
        alarm: Callable[[EvidenceWriteFailed], None],
        observer: Callable[[Event], None] | None = None,
    ) -> None:
        self._folder = folder
        self._events = events
        self._layers = layers
        self._redactor = redactor
        self._kind = kind
        self._isolation = isolation
        self._alarm = alarm
        self._observer = observer
        self.failure: EvidenceWriteFailed | None = None
        self.lost = 0
        self._perform: dict[type[Any], Callable[[Any], None]] = {
            Note: self._note,
            CommandStarted: self._started,
            CommandFinished: self._finished,
            Refusal: self._refused,
            LayerRecords: self._observed,
            KeptFile: self._keep,
            LastTry: self._name_last_try,
        }

    async def handle(self, record: Record) -> None:
        """Write one record. Never raises for the disk."""
        if isinstance(record, Checkpoint):
            await self._checkpoint(record)
        elif isinstance(record, KeptFile) and len(record.data) > _AT_ONCE:
            redact = partial(self._redactor.bytes, record.data, member=record.path)
            self._write(partial(self._put, record, await to_thread.run_sync(redact)))
        else:
            self._write(partial(self._perform[type(record)], record))

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except EvidenceWriteFailed as error:
            self._fail(error)
            self._write_from_reserve(write)

    def _fail(self, error: EvidenceWriteFailed) -> None:
        if self.failure is None:
            self.failure = error
            self._folder.release_reserve()
            self._alarm(error)

    def _write_from_reserve(self, write: Callable[[], None]) -> None:
        try:
            write()
        except EvidenceWriteFailed:
            self.lost += 1

    async def _checkpoint(self, wanted: Checkpoint) -> None:
        """Data first, then the event that names it, then the events: nothing is promised that is not there."""
        if self.failure is not None:
            return
        try:
            event = await to_thread.run_sync(self._sync, wanted)
        except EvidenceWriteFailed as error:
            self._fail(error)
        else:
            self._show(event)

    def _sync(self, wanted: Checkpoint) -> Event | None:
        event = None
        if not wanted.final:
            event = self._events.append("checkpoint", {"files": self._folder.checkpoint_files()})
        self._events.sync()
        return event

    def _show(self, event: Event | None) -> None:
        if event is not None and self._observer is not None:
            self._observer(event)

    def _event(self, type_: str, data: Mapping[str, Any]) -> None:
        self._show(self._events.append(type_, data))

    def _note(self, note: Note) -> None:
        self._event(note.type, note.data)

    def _started(self, started: CommandStarted) -> None:
        order = started.order
        self._decided(started.cmd_id, started.decision)
        self._event(
            "command_started",
            {
                "cmd_id": started.cmd_id,
                "stage": order.stage,
                "try": started.try_number,
                "path": started.path,
                **_what_runs(started, self._redactor),
                "cwd": started.cwd,
                "env_keys": sorted({*order.env, *started.planned.env}),
                "sandbox": self._kind,
                "limits": {
                    name: value
                    for name, value in (
                        ("try_seconds", started.planned.seconds or order.limits.try_seconds),
                        ("stage_seconds", order.limits.stage_seconds),
                        ("output_bytes", order.limits.output_bytes),
                    )
                    if value is not None
                },
                "guarantees": self._isolation,
            },
        )

    def _finished(self, finished: CommandFinished) -> None:
        report, exit_ = finished.report, finished.exit
        self._write_files(report)
        if exit_ is not None:
            self._layers["process"].append(_process(exit_, finished.pid), cmd_id=report.cmd_id)
        self._event(
            "command_finished",
            {
                "cmd_id": report.cmd_id,
                "exit_code": exit_.code if exit_ is not None else None,
                "signal": exit_.signal if exit_ is not None else None,
                "timed_out": report.timed_out,
                "oom_killed": report.oom,
                "core_dumped": exit_.core_dumped if exit_ is not None else False,
                "cancelled": report.cancelled,
                "duration_ms": round(report.seconds * 1000, 3),
                "streams": {"stdout": _kept(report.stdout), "stderr": _kept(report.stderr)},
                "usage": exit_.usage if exit_ is not None else None,
                "reason": report.limit,
            },
        )

    def _refused(self, refusal: Refusal) -> None:
        self._decided(refusal.report.cmd_id, refusal.decision)
        self._write_files(refusal.report)
        if refusal.decision is not None and not refusal.decision.allowed:
            self._event(
                "policy_decision",
                {"cmd_id": refusal.report.cmd_id, **_decision(refusal.decision)},
            )

    def _decided(self, cmd_id: str, decision: Decision | None) -> None:
        if decision is not None:
            self._layers["policy"].append(_decision(decision), cmd_id=cmd_id)

    def _write_files(self, report: TryReport) -> None:
        self._new_file(f"{report.path}_cmd.txt", f"{report.cmd}\n".encode())
        # Numbers and words of ours alone: nothing in it could hold a secret.
        self._folder.write_new(f"{report.path}_result.json", pretty(_result_file(report)))

    def _new_file(self, path: str, data: bytes) -> None:
        self._folder.write_new(path, self._redactor.bytes(data, member=path))

    def _observed(self, observed: LayerRecords) -> None:
        layer = self._layers[observed.layer]
        for record in observed.records:
            layer.append(record)

    def _keep(self, kept: KeptFile) -> None:
        self._put(kept, self._redactor.bytes(kept.data, member=kept.path))

    def _put(self, kept: KeptFile, data: bytes) -> None:
        if kept.keep_first and self._folder.has(kept.path):
            return
        if kept.replace:
            self._folder.replace(kept.path, data)
        else:
            self._folder.write_new(kept.path, data)

    def _name_last_try(self, last: LastTry) -> None:
        for file in _FILES_OF_A_TRY:
            self._folder.link(f"{last.prefix}_{file}", f"{last.folder}/{last.stage}_{file}")


def _what_runs(started: CommandStarted, redactor: Redactor) -> dict[str, Any]:
    if started.planned.argv is not None:
        return {"argv": redactor.argv(list(started.planned.argv))}
    return {"shell": started.planned.text}


def _process(exit_: Exit, pid: int | None) -> dict[str, Any]:
    return {
        "pid": pid,
        "duration_ms": round(exit_.seconds * 1000, 3),
        "exit_code": exit_.code,
        "signal": exit_.signal,
        "core_dumped": exit_.core_dumped,
        "rusage": exit_.usage,
        "cgroup": exit_.cgroup,
        "leftover_pids": exit_.leftover_pids,
    }


def _decision(decision: Decision) -> dict[str, Any]:
    return {
        "tool": "command",
        "decision": "allow" if decision.allowed else "deny",
        "rule": decision.rule,
        "reason": decision.reason or "no rule refuses it",
        "source": "command_guard",
    }


def _kept(stream: StreamReport) -> dict[str, Any]:
    return {
        "bytes_total": stream.bytes,
        "bytes_head": stream.bytes_head,
        "bytes_tail": stream.bytes_tail,
        "bytes_omitted": stream.bytes_omitted,
        "sha256": stream.sha256,
    }


def _result_file(report: TryReport) -> dict[str, Any]:
    return {
        "rc": report.rc,
        "timed_out": report.timed_out,
        "refused": report.refused is not None,
        "cancelled": report.cancelled,
        "output_limit": report.output_limit,
        "drain_cut": report.drain_cut,
        "limit": report.limit,
        "signal": report.signal,
        "stdout_bytes": report.stdout.bytes,
        "stderr_bytes": report.stderr.bytes,
        "stdout_truncated": report.stdout.truncated,
        "stderr_truncated": report.stderr.truncated,
        "started_at": report.started_at,
        "seconds": round(report.seconds, 6),
        "cmd_id": report.cmd_id,
        "status_source": report.status_source,
    }
