from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from fsmrt.errors import EvidenceError, EvidenceWriteFailed
from fsmrt.evidence.files import AppendFile, FileFacts
from fsmrt.evidence.folder import RunFolder
from fsmrt.lease import this_process

FileSizeLimit = Callable[[int], AbstractContextManager[None]]


def facts(data: bytes) -> FileFacts:
    return FileFacts(len(data), hashlib.sha256(data).hexdigest())


def test_a_folder_is_private_locked_and_leaves_nothing_but_evidence(tmp_path: Path, open_files: None) -> None:
    folder = RunFolder.create(tmp_path, "r1")
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert folder.lock_owner() == this_process()
    other = RunFolder.open_existing(folder.path)
    assert not other.try_lock()
    other.abandon()
    folder.write_new("a.txt", b"a")
    assert (folder.path / "a.txt").stat().st_mode & 0o777 == 0o600
    folder.close()
    assert os.listdir(tmp_path / "r1") == ["a.txt"]


def test_a_folder_is_never_taken_over(folder: RunFolder) -> None:
    with pytest.raises(EvidenceWriteFailed) as raised:
        RunFolder.create(folder.path.parent, folder.run_id)
    assert raised.value.errno == errno.EEXIST


def test_inside_a_git_tree_the_folder_ignores_itself(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    with RunFolder.create(tmp_path / "a" / "b", "r1") as folder:
        assert (folder.path / ".gitignore").read_bytes() == b"*\n"


def test_outside_of_one_it_has_nothing_to_ignore(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "r1") as folder:
        assert sorted(os.listdir(folder.path)) == ["lock"]


@pytest.mark.parametrize("rel", ["", "/etc/x", "a/../b", "..", "a//b", "./a", "a\0"])
def test_a_path_cannot_leave_the_folder(folder: RunFolder, rel: str) -> None:
    with pytest.raises(ValueError, match="not a path inside"):
        folder.write_new(rel, b"")


def test_links_are_never_followed(folder: RunFolder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"untouched")
    (folder.path / "dir").symlink_to(outside)
    (folder.path / "file").symlink_to(outside / "victim")
    attacks: list[Callable[[], object]] = [
        lambda: folder.write_new("dir/x", b"x"),
        lambda: folder.write_new("file", b"x"),
        lambda: folder.append_file("file"),
        lambda: folder.replace("dir/victim", b"x"),
        lambda: folder.makedirs("dir/deep"),
        lambda: folder.link("file", "dir/alias"),
    ]
    for attack in attacks:
        with pytest.raises(EvidenceWriteFailed):
            attack()
    with pytest.raises(OSError, match="symbolic"):
        folder.read("file")
    assert os.listdir(outside) == ["victim"]
    assert (outside / "victim").read_bytes() == b"untouched"


def test_replacing_a_link_replaces_the_link_itself(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"untouched")
    (folder.path / "verdict.json").symlink_to(tmp_path / "victim")
    folder.replace("verdict.json", b"{}\n")
    assert (tmp_path / "victim").read_bytes() == b"untouched"
    assert folder.read("verdict.json") == b"{}\n"
    assert sorted(os.listdir(folder.path)) == ["lock", "verdict.json"]


def test_a_folder_swapped_for_a_link_after_its_making_is_not_where_files_go(
    folder: RunFolder, tmp_path: Path
) -> None:
    folder.makedirs("stage")
    (folder.path / "stage").rename(tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    (folder.path / "stage").symlink_to(tmp_path / "elsewhere")
    folder.write_new("stage/x", b"x")
    assert os.listdir(tmp_path / "elsewhere") == []
    assert os.listdir(tmp_path / "moved") == ["x"]


def test_a_file_is_created_once(folder: RunFolder) -> None:
    folder.write_new("a", b"1")
    with pytest.raises(EvidenceWriteFailed):
        folder.write_new("a", b"2")
    assert folder.read("a") == b"1"


def test_many_folders_deep_and_wide(folder: RunFolder) -> None:
    for number in range(30):
        folder.makedirs(f"a/b/c/d/e/f/g/h/i/{number}")
        folder.write_new(f"a/b/c/d/e/f/g/h/i/{number}/x", b"%d" % number)
    assert folder.read("a/b/c/d/e/f/g/h/i/7/x") == b"7"


def test_an_alias_takes_the_place_of_an_earlier_one(folder: RunFolder) -> None:
    folder.makedirs("s")
    folder.write_new("s/one", b"1")
    folder.write_new("s/two", b"2")
    folder.link("s/one", "s/last")
    folder.link("s/two", "s/last")
    folder.link("s/two", "s/last")
    assert folder.read("s/last") == b"2"
    assert sorted(os.listdir(folder.path / "s")) == ["last", "one", "two"]


def test_a_checkpoint_names_what_is_new_and_what_grew(folder: RunFolder) -> None:
    folder.makedirs("s")
    folder.write_new("s/cmd.txt", b"true")
    stream = folder.append_file("s/stdout.txt")
    stream.write(b"one")
    silent = folder.append_file("events.jsonl", listed=False)
    silent.write(b"x")
    assert folder.checkpoint_files() == {"s/cmd.txt": facts(b"true"), "s/stdout.txt": facts(b"one")}
    assert folder.checkpoint_files() == {}
    stream.write(b"two")
    stream.close()
    silent.close()
    assert folder.checkpoint_files() == {"s/stdout.txt": facts(b"onetwo")}
    assert folder.checkpoint_files() == {}


def test_a_checkpoint_names_what_somebody_removed(folder: RunFolder) -> None:
    folder.write_new("gone", b"x")
    (folder.path / "gone").unlink()
    assert folder.checkpoint_files() == {"gone": facts(b"x")}


def test_a_checkpoint_beside_a_writer_sees_whole_writes(folder: RunFolder) -> None:
    stream = folder.append_file("s")
    block = bytes(range(256)) * 16
    started = threading.Event()

    def write() -> None:
        for _ in range(500):
            stream.write(block)
            started.set()

    writer = threading.Thread(target=write)
    writer.start()
    started.wait()
    seen: list[FileFacts] = []
    while writer.is_alive():
        seen += folder.checkpoint_files().values()
    writer.join()
    seen += folder.checkpoint_files().values()
    stream.close()
    content = (folder.path / "s").read_bytes()
    assert seen
    assert seen[-1].bytes == len(content)
    assert all(found == facts(content[: found.bytes]) for found in seen)


def test_a_write_that_fails_leaves_no_half(folder: RunFolder, file_size_limit: FileSizeLimit) -> None:
    stream = folder.append_file("s")
    stream.write(b"whole")
    with file_size_limit(8), pytest.raises(EvidenceWriteFailed, match="evidence_write_failed: s") as raised:
        stream.write(b"too much")
    assert raised.value.errno == errno.EFBIG
    assert folder.read("s") == b"whole"
    stream.write(b", again")
    stream.close()
    assert folder.checkpoint_files() == {"s": facts(b"whole, again")}
    with file_size_limit(2), pytest.raises(EvidenceWriteFailed):
        folder.write_new("new", b"too much")
    assert not (folder.path / "new").exists()


def test_where_no_file_is_nameless_one_has_a_name_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_files: None
) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)  # refused for writing, as such file systems do
    with RunFolder.create(tmp_path, "r1") as folder:
        fd = folder.nameless()
        os.write(fd, b"x")
        assert os.pread(fd, 1, 0) == b"x"
        os.close(fd)
        assert os.listdir(folder.path) == ["lock"]


def test_a_device_that_is_full_says_so() -> None:
    full = AppendFile(os.open("/dev/full", os.O_WRONLY), "stdout.txt")
    with pytest.raises(EvidenceWriteFailed) as raised:
        full.write(b"x")
    full.close()
    assert raised.value.errno == errno.ENOSPC
    assert full.size == 0


def test_the_lock_of_a_killed_run_is_free_and_names_the_dead(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from fsmrt.evidence.folder import RunFolder\n"
        "RunFolder.create(Path(sys.argv[1]), 'r1'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path / "r1") == ["lock"]
    folder = RunFolder.open_existing(tmp_path / "r1")
    owner = folder.lock_owner()
    assert owner is not None
    assert owner != this_process()
    assert folder.try_lock()
    folder.close()


def test_a_lock_that_says_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "r1").mkdir()
    (tmp_path / "r1" / "lock").write_bytes(b"garbage")
    folder = RunFolder.open_existing(tmp_path / "r1")
    with pytest.raises(EvidenceError, match="lock"):
        folder.lock_owner()
    folder.abandon()


def test_a_link_is_no_run_folder(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(folder.path)
    with pytest.raises(OSError, match="alias"):
        RunFolder.open_existing(tmp_path / "alias")
