"""Every sandbox kind there is. To learn what exists, read this dictionary."""

from __future__ import annotations

from collections.abc import Callable

from .base import Sandbox
from .host import HostSandbox

BACKENDS: dict[str, Callable[[str], Sandbox]] = {
    "host": HostSandbox,
}
"""Kind -> what makes one for a run id."""
