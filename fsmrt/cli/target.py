"""TARGET: the working tree that was named, or why it cannot be one."""

from __future__ import annotations

import re
from pathlib import Path

from ..repository import Repository
from .usage import UsageError

_OWNER_AND_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_LOCAL_ONLY = "this version runs local folders only; clone it first, then give its path"


def repository_at(target: str) -> Repository:
    """The working tree that was named. Raises `UsageError`."""
    path = Path(target).expanduser()
    if _is_remote(target):
        raise UsageError(f"{target}: {_LOCAL_ONLY}")
    if not path.exists():
        hint = f". If you mean a repository of that name: {_LOCAL_ONLY}" if _names_a_host(target) else ""
        raise UsageError(f"{target}: no such folder{hint}")
    if not path.is_dir():
        raise UsageError(f"{target} is a file; name the repository's folder, and the file with --pipeline")
    return Repository(path)


def _is_remote(target: str) -> bool:
    return "://" in target or (target.startswith("git@") and ":" in target)


def _names_a_host(target: str) -> bool:
    return not target.startswith(".") and bool(_OWNER_AND_NAME.fullmatch(target))
