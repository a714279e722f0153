from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from fsmrt import lease as leases
from fsmrt.lease import (
    Lease,
    Owner,
    boot_id,
    dead_leases,
    hold,
    is_alive,
    owner_alive,
    process_start_time,
    read_leases,
    state_dir,
    this_process,
)


def a_lease(run_id: str = "r1", **changes: object) -> Lease:
    me = this_process()
    lease = Lease(
        run_id=run_id,
        boot_id=me.boot_id,
        pid=me.pid,
        start_time=me.start_time,
        run_dir=f"/runs/{run_id}",
        repo="/repo",
        created_at="2025-01-02T03:04:05Z",
    )
    return msgspec.structs.replace(lease, **changes)


def test_a_lease_is_there_while_it_is_held(tmp_path: Path) -> None:
    held = hold(tmp_path, a_lease())
    path = tmp_path / "runs" / a_lease().file_name
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_leases(tmp_path) == [a_lease()]
    assert dead_leases(tmp_path) == []
    held.update(cgroup="/sys/fs/cgroup/x")
    assert read_leases(tmp_path) == [a_lease(cgroup="/sys/fs/cgroup/x")] == [held.lease]
    held.release()
    held.release()
    assert read_leases(tmp_path) == []
    assert os.listdir(tmp_path / "runs") == []


def test_a_lease_does_not_change_hands_and_is_held_once(tmp_path: Path) -> None:
    held = hold(tmp_path, a_lease())
    with pytest.raises(ValueError, match="change hands"):
        held.update(pid=1)
    with pytest.raises(FileExistsError):
        hold(tmp_path, a_lease())


@pytest.mark.parametrize("changes", [{"pid": 2**22 + 1}, {"start_time": 1}, {"boot_id": "0" * 36}])
def test_pid_start_and_boot_must_all_be_ours(tmp_path: Path, changes: dict[str, object]) -> None:
    dead = a_lease("dead", **changes)
    hold(tmp_path, dead)
    hold(tmp_path, a_lease("live"))
    assert not is_alive(dead)
    assert is_alive(a_lease())
    assert dead_leases(tmp_path) == [dead]
    assert len(read_leases(tmp_path)) == 2


def test_a_process_that_ended_is_dead_even_before_it_is_reaped() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = process_start_time(child.pid)
    assert started is not None
    owner = Owner(pid=child.pid, start_time=started, boot_id=boot_id())
    assert owner_alive(owner)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not owner_alive(owner)
    child.communicate()
    assert not owner_alive(owner)


def test_a_name_with_parentheses_is_read_right() -> None:
    here = process_start_time(os.getpid())
    script = (
        "import ctypes, sys; from fsmrt.lease import this_process\n"
        "ctypes.CDLL(None).prctl(15, b') R 1 2 (x')\n"
        "print(this_process().start_time)"
    )
    renamed = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert here is not None
    assert int(renamed.stdout) >= here


def test_foreign_files_are_passed_over(tmp_path: Path) -> None:
    assert read_leases(tmp_path) == dead_leases(tmp_path) == []
    dead = a_lease("dead", pid=2**22 + 1)
    hold(tmp_path, dead)
    runs = tmp_path / "runs"
    (runs / "README").write_text("hello")
    (runs / a_lease("broken", start_time=1).file_name).write_bytes(b"\xff{")
    (runs / a_lease("moved", start_time=1).file_name).write_bytes(msgspec.json.encode(dead))
    (runs / a_lease("link", start_time=1).file_name).symlink_to(runs / dead.file_name)
    (runs / a_lease("folder", start_time=1).file_name).mkdir()
    os.mkfifo(runs / a_lease("pipe", start_time=1).file_name)
    assert dead_leases(tmp_path) == [dead]
    assert read_leases(tmp_path) == [dead]


def test_live_leases_cost_no_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        hold(tmp_path, a_lease(f"r{number}"))
    looked_up: list[int] = []

    def counting(pid: int) -> int | None:
        looked_up.append(pid)
        return process_start_time(pid)

    def never(path: Path) -> Lease | None:
        raise AssertionError(f"read {path}")

    monkeypatch.setattr(leases, "process_start_time", counting)
    monkeypatch.setattr(leases, "_read", never)
    assert dead_leases(tmp_path) == []
    assert looked_up == [os.getpid()]


def test_where_the_state_is_kept(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path / "home")}
    assert state_dir(home) == tmp_path / "home/.local/state/fsmrt"
    assert state_dir({**home, "XDG_STATE_HOME": str(tmp_path / "xdg")}) == tmp_path / "xdg/fsmrt"
    assert state_dir({**home, "XDG_STATE_HOME": "relative"}) == tmp_path / "home/.local/state/fsmrt"
    chosen = state_dir({**home, "FSMRT_STATE_DIR": str(tmp_path / "mine")})
    assert chosen == tmp_path / "mine"
    assert chosen.stat().st_mode & 0o777 == 0o700
