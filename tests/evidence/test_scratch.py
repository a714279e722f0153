from __future__ import annotations

import hashlib
import os
import subprocess

import pytest

from fsmrt.evidence.folder import RunFolder
from fsmrt.evidence.redaction import Redactor
from fsmrt.evidence.scratch import ScratchKeeper, SealedFile

SCRATCH = "scratch/tests"


@pytest.fixture
def keeper(folder: RunFolder) -> ScratchKeeper:
    made = ScratchKeeper(folder, Redactor({"API_TOKEN": "sesame-open"}, key=b"k" * 32, mode="full"))
    made.open(SCRATCH)
    return made


def test_a_seal_names_what_is_there_and_which_of_it_holds_a_secret(
    folder: RunFolder, keeper: ScratchKeeper
) -> None:
    assert keeper.is_empty(SCRATCH)
    top = folder.path / SCRATCH
    (top / "b").mkdir()
    (top / "b" / "leak").write_text("say sesame-open")
    (top / "c").write_bytes(b"plain")
    (top / "a").symlink_to("/etc")
    os.mkfifo(top / "d")

    seal = keeper.seal(SCRATCH)

    assert not keeper.is_empty(SCRATCH)
    assert [(one.path, one.type) for one in seal.files] == [
        ("a", "link"),
        ("c", "file"),
        ("d", "special"),
        ("b/leak", "file"),
    ]
    assert seal.files[1] == SealedFile("c", "file", 5, hashlib.sha256(b"plain").hexdigest())
    assert (seal.secret_in_scratch, seal.complete) == (("b/leak",), True)


def test_a_seal_that_takes_too_long_says_that_it_is_not_complete(
    folder: RunFolder, keeper: ScratchKeeper
) -> None:
    (folder.path / SCRATCH / "a").write_text("")

    seal = keeper.seal(SCRATCH, seconds=-1.0)

    assert (seal.files, seal.complete) == ((), False)


def test_folders_in_folders_without_end_are_no_defect(folder: RunFolder, keeper: ScratchKeeper) -> None:
    place = os.open(folder.path / SCRATCH, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)

    [unreachable] = keeper.seal(SCRATCH).files
    subprocess.run(["rm", "-rf", folder.path / SCRATCH / "d"], check=True)  # deeper than others can walk

    assert unreachable.type == "unreadable"
    assert len(unreachable.path) > 4000


@pytest.mark.parametrize("kind", ["link", "file", "missing"])
def test_what_took_the_place_of_the_folder_is_sealed_as_that(
    folder: RunFolder, keeper: ScratchKeeper, kind: str
) -> None:
    top = folder.path / SCRATCH
    top.rmdir()
    if kind == "link":
        top.symlink_to("/etc")
    elif kind == "file":
        top.write_text("")

    seal = keeper.seal(SCRATCH)

    assert (seal.files, seal.complete) == ((SealedFile(".", kind, 0),), False)
    assert keeper.is_empty(SCRATCH) == (kind == "missing")
