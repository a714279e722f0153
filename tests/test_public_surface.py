"""What `import fsmrt` promises: every name is documented, typed, and listed for users."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fsmrt

ROOT = Path(__file__).parent.parent
API_PAGE = ROOT / "docs" / "api.md"

each_name = pytest.mark.parametrize("name", sorted(fsmrt.__all__))


def test_all_is_sorted_and_complete() -> None:
    assert list(fsmrt.__all__) == sorted(set(fsmrt.__all__))
    assert fsmrt.__all__


@each_name
def test_a_public_name_says_what_it_is(name: str) -> None:
    value = getattr(fsmrt, name)
    if callable(value):
        # Its own, not one inherited from a base class.
        assert (value.__doc__ or "").strip(), f"fsmrt.{name} has no docstring"


@each_name
def test_a_public_function_is_typed(name: str) -> None:
    value = getattr(fsmrt, name)
    if not inspect.isfunction(value):
        return
    signature = inspect.signature(value)
    assert signature.return_annotation is not inspect.Signature.empty
    bare = [p.name for p in signature.parameters.values() if p.annotation is inspect.Parameter.empty]
    assert bare == []


@each_name
def test_a_public_name_has_its_place_in_the_documents(name: str) -> None:
    assert re.search(rf"^#+ `{re.escape(name)}`", API_PAGE.read_text(), re.MULTILINE), (
        f"not in {API_PAGE.name}"
    )


@pytest.mark.parametrize("heavy", ["docker", "httpx", "rich", "trio"])
def test_importing_the_package_is_light(heavy: str) -> None:
    code = f"import fsmrt, sys; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
