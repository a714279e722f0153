"""What a look at a repository's files works with, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

Files = Mapping[str, bytes | None]
"""Path relative to the repository's root -> contents, or None where they were not read."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of project asks for."""

    kind: str
    reason: str
    prepare: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    env: dict[str, str] = msgspec.field(default_factory=dict)
    image: str | None = None
    """An image that has the tools, where the default one does not."""


def text_of(files: Files, name: str) -> str:
    """The contents as text; empty where there are none."""
    return (files.get(name) or b"").decode("utf-8", "replace")
