from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator

import pytest

from fsmrt.sandbox.procfs import (
    age_seconds,
    all_facts,
    child_pids,
    command_line,
    environment_of,
    group_leader,
    last_pid,
    read_facts,
)

NOBODY = 1 << 30
"""No process of Linux has such a number."""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A shell that waits for its input to end, with a name that was made to confuse."""
    text = "printf '%s' 'a) R 1 (b' > /proc/$$/comm; echo; read _"
    with subprocess.Popen(
        ["/bin/sh", "-c", text], env={"MARK": "yes"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        assert process.stdin is not None
        process.stdin.close()


def test_a_name_cannot_forge_the_other_facts(child: subprocess.Popen[bytes]) -> None:
    facts = read_facts(child.pid)
    assert facts is not None
    assert (facts.pid, facts.name, facts.parent, facts.alive) == (child.pid, "a) R 1 (b", os.getpid(), True)
    assert 0 <= age_seconds(facts.start_ticks) < 60
    assert facts in [one for one in all_facts() if one.pid == child.pid] or facts.state != "S"


def test_what_a_process_was_started_with(child: subprocess.Popen[bytes]) -> None:
    assert b"MARK=yes" in environment_of(child.pid).split(b"\0")
    assert command_line(child.pid).startswith("/bin/sh -c printf")
    assert child.pid in child_pids()


def test_a_zombie_is_over_and_has_a_name(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    facts = read_facts(child.pid)
    assert facts is not None
    assert not facts.alive
    assert command_line(child.pid) == "[a) R 1 (b]"
    assert environment_of(child.pid) == b""


def test_who_is_not_there_has_no_facts() -> None:
    assert read_facts(NOBODY) is None
    assert (environment_of(NOBODY), command_line(NOBODY), group_leader(NOBODY)) == (b"", "?", None)


def test_a_thread_leads_to_its_process() -> None:
    seen: list[int | None] = []
    thread = threading.Thread(target=lambda: seen.append(group_leader(threading.get_native_id())))
    thread.start()
    thread.join()
    assert seen == [os.getpid()]


def test_the_last_pid_tells_of_a_fork() -> None:
    before = last_pid()
    subprocess.run(["/bin/true"], check=True)
    assert last_pid() != before
    assert last_pid().isdigit()
