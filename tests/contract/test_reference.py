"""The reference names every code that reading can give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
GIVEN = re.compile(
    r"(?:notes\.(?:error|strict|warning)|Unreadable)\(\s*\"([\w.]+)\"|code(?:: str)? ?= ?\"([\w.]+)\"|"
    r"add\(level, \"(\w+)\""
)
READERS = [
    "yaml_nodes",
    "reading",
    "sections",
    "fields",
    "sandbox_wishes",
    "pipeline",
    "bootstrap",
    "actions",
]


@pytest.mark.parametrize("module", READERS)
def test_every_code_is_in_the_reference(module: str) -> None:
    source = (ROOT / "fsmrt" / "contract" / f"{module}.py").read_text()
    codes = {code for groups in GIVEN.findall(source) for code in groups if code}
    page = (ROOT / "docs" / "contract.md").read_text()
    assert codes
    assert [code for code in sorted(codes) if f"`{code}`" not in page] == []
