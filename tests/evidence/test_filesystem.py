from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fsmrt.evidence import filesystem
from fsmrt.evidence.filesystem import Snapshot, diff, may_be_credential, snapshot
from fsmrt.evidence.identity import canonical_json


def tree(root: Path) -> Path:
    (root / "src").mkdir()
    (root / "src" / "a.txt").write_bytes(b"one")
    (root / "src" / "b.txt").write_bytes(b"two")
    (root / "link").symlink_to("src/a.txt")
    (root / ".git" / "objects" / "ab").mkdir(parents=True)
    (root / ".git" / "hooks").mkdir()
    (root / ".git" / "config").write_bytes(b"[core]")
    return root


def changes(root: Path, act: Callable[[], object]) -> list[tuple[str, str]]:
    before = snapshot(root)
    act()
    return [(change.op, change.path) for change in diff(before, snapshot(root, previous=before))]


def same_size_edit(path: Path) -> None:
    """A change that hides behind its old size and mtime."""
    status = path.stat()
    path.write_bytes(b"ONE")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("src/b.txt")


def into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def test_nothing_changed(tmp_path: Path) -> None:
    assert changes(tree(tmp_path), lambda: None) == []


ACTS: list[tuple[Callable[[Path], object], list[tuple[str, str]]]] = [
    (lambda r: (r / "new").write_bytes(b"x"), [("created", "new")]),
    (lambda r: (r / "src" / "a.txt").unlink(), [("deleted", "src/a.txt")]),
    (lambda r: same_size_edit(r / "src" / "a.txt"), [("modified", "src/a.txt")]),
    (lambda r: (r / "src" / "a.txt").chmod(0o600), [("mode_changed", "src/a.txt")]),
    (lambda r: (r / "src" / "a.txt").touch(), []),
    (lambda r: (r / "src" / "a.txt").rename(r / "c.txt"), [("renamed", "c.txt")]),
    (lambda r: (r / "c.txt").hardlink_to(r / "src" / "a.txt"), [("created", "c.txt")]),
    (lambda r: into_folder(r / "src" / "a.txt"), [("type_changed", "src/a.txt")]),
    (
        lambda r: os.replace(r / "src" / "b.txt", r / "src" / "a.txt"),
        [("modified", "src/a.txt"), ("deleted", "src/b.txt")],
    ),
    (
        lambda r: shutil.rmtree(r / "src"),
        [("deleted", "src"), ("deleted", "src/a.txt"), ("deleted", "src/b.txt")],
    ),
    (lambda r: relink(r / "link"), [("modified", "link")]),
    (lambda r: (r / ".git" / "objects" / "ab" / "cd").write_bytes(b"x"), []),
    (
        lambda r: (r / ".git" / "hooks" / "pre-commit").write_bytes(b"x"),
        [("created", ".git/hooks/pre-commit")],
    ),
    (lambda r: (r / ".git" / "config").write_bytes(b"[evil]"), [("modified", ".git/config")]),
    (lambda r: os.mkfifo(r / "pipe"), [("created", "pipe")]),
]


@pytest.mark.parametrize(("act", "expected"), ACTS)
def test_each_kind_of_change(
    tmp_path: Path, act: Callable[[Path], object], expected: list[tuple[str, str]]
) -> None:
    assert changes(tree(tmp_path), lambda: act(tmp_path)) == expected


def test_a_record_has_both_sides(tmp_path: Path) -> None:
    before = snapshot(tree(tmp_path))
    (tmp_path / "src" / "a.txt").write_bytes(b"three")
    (tmp_path / "src" / "b.txt").rename(tmp_path / "moved")
    moved, modified = diff(before, snapshot(tmp_path))
    assert (moved.op, moved.path, moved.old_path) == ("renamed", "moved", "src/b.txt")
    assert modified.before is not None
    assert modified.after is not None
    assert (modified.before.sha256, modified.after.sha256) == (
        hashlib.sha256(b"one").hexdigest(),
        hashlib.sha256(b"three").hexdigest(),
    )
    assert (modified.before.size, modified.after.size) == (3, 5)


def test_odd_names_are_kept_byte_for_byte(tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    names = [b"caf\xe9", b"new\nline", b" ", "ü".encode(), b"-rf", b"\xff\xfe"]
    for name in names:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
            pass
    records = diff(before, snapshot(tmp_path))
    assert [os.fsencode(record.path) for record in records] == sorted(names)
    assert b"caf\\udce9" in canonical_json(records)


def test_content_is_read_again_only_when_it_can_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(tree(tmp_path))
    (tmp_path / "src" / "a.txt").write_bytes(b"ONE")
    read: list[str] = []

    def counting(full: str, entry: filesystem.Entry) -> bytes | None:
        read.append(os.path.relpath(full, tmp_path))
        return content(full, entry)

    content = filesystem._content
    monkeypatch.setattr(filesystem, "_content", counting)
    snapshot(tmp_path, previous=before)
    assert read == ["src/a.txt"]


def test_links_are_not_followed_and_pipes_not_opened(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (outside / "secret").write_bytes(b"x")
    (root / "out").symlink_to(outside)
    os.mkfifo(root / "pipe")
    seen = snapshot(root)
    assert sorted(seen.entries) == ["out", "pipe"]
    assert seen.entries["out"].target == str(outside)
    assert seen.entries["pipe"].type == "fifo"


def test_a_file_that_may_hold_a_secret_gets_a_keyed_digest(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"PIN=1234")
    (tmp_path / "notes").write_bytes(b"the pin is 1234")
    (tmp_path / "plain").write_bytes(b"hello")

    def check(path: str, content: bytes) -> bytes | None:
        return b"key" if may_be_credential(path) or b"1234" in content else None

    entries = snapshot(tmp_path, secrets_check=check).entries
    assert entries["plain"].sha256 == hashlib.sha256(b"hello").hexdigest()
    for path in (".env", "notes"):
        digest = entries[path].sha256
        assert digest is not None
        assert digest.startswith("hmac:")
        assert hashlib.sha256((tmp_path / path).read_bytes()).hexdigest() not in digest


@pytest.mark.parametrize(
    "path", [".env", "a/.env.local", "id_ed25519", "x/TLS.KEY", "my_secrets.yml", ".netrc"]
)
def test_names_of_credentials(path: str) -> None:
    assert may_be_credential(path)
    assert not may_be_credential(path + "/readme.md")


def test_limits_and_exclusions_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path)
    cut = snapshot(tmp_path, max_entries=2)
    assert (cut.complete, cut.reason, len(cut.entries)) == (False, "scan_limit", 2)
    late = snapshot(tmp_path, max_seconds=-1)
    assert (late.complete, len(late.entries)) == (False, 0)
    monkeypatch.setattr(filesystem, "MAX_DIGEST", 2)
    large = snapshot(tmp_path, excludes=(".git",))
    assert large.entries["src/a.txt"].sha256 is None
    assert large.blind_spots == ("excluded:.git", "transient_files", "large_file_digest")


def test_what_a_cut_snapshot_did_not_see_is_not_called_gone(tmp_path: Path) -> None:
    whole = snapshot(tree(tmp_path))
    none = snapshot(tmp_path, max_entries=0)
    assert diff(whole, none) == diff(none, whole) == []


def test_a_large_file_is_told_by_its_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "MAX_DIGEST", 2)
    assert changes(tree(tmp_path), lambda: (tmp_path / "src" / "a.txt").write_bytes(b"more")) == [
        ("modified", "src/a.txt")
    ]


def test_a_root_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        snapshot(tmp_path / "missing")


def test_an_empty_snapshot_against_a_full_one(tmp_path: Path) -> None:
    empty = Snapshot({}, ())
    assert {change.op for change in diff(empty, snapshot(tree(tmp_path)))} == {"created"}
