"""How a Python project is prepared and tested, told from its files."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from typing import Any

from .repository_files import Files, Finding, text_of

VENV = ".aider_fsm/venv"
PYTHON = f"{VENV}/bin/python"
# Made again where it is missing or half made; a second run finds it whole and keeps it.
MAKE_VENV = f"{PYTHON} -m pip --version >/dev/null 2>&1 || python3 -m venv --clear {VENV}"
VENV_ENV = {"PATH": f"{VENV}/bin:$PATH", "AIDER_FSM_PYTHON": PYTHON}

MARKS = frozenset({"pyproject.toml", "setup.py", "setup.cfg", "tox.ini", "pytest.ini", "conftest.py"})
TEST_GROUPS = ("test", "tests", "testing", "dev")
REQUIREMENTS = re.compile(r"requirements[\w.-]*\.txt", re.ASCII)
TEST_FILE = re.compile(r"(?:[\w.-]+/)*(?:test_[\w.-]*|[\w.-]*_test)\.py", re.ASCII)
PYTEST = re.compile(r"(?<![\w.-])pytest(?![\w.])")


def wants_contents(name: str) -> bool:
    """True for a file whose contents `find` can use."""
    return any((name in MARKS, REQUIREMENTS.fullmatch(name), TEST_FILE.fullmatch(name)))


def find(files: Files) -> Finding | None:
    """The Python project these files show, or None."""
    if not any(wants_contents(name) for name in files):
        return None
    project = _toml(text_of(files, "pyproject.toml"))
    required = _required(files, project)
    pytest = _pytest_reason(files, project, required)
    installs = list(_installs(files, project))
    if pytest and not PYTEST.search(required):
        installs.append(_pip("pytest"))
    test, why = ("-m pytest", pytest) if pytest else _unittest(files)
    return Finding(
        kind="python",
        prepare=(MAKE_VENV, *installs) if installs else (),
        tests=(f'"$AIDER_FSM_PYTHON" {test}',) if test else (),
        env=VENV_ENV if installs else {},
        reason=f"Python: {why}",
    )


def _pytest_reason(files: Files, project: dict[str, Any], required: str) -> str | None:
    """Which file shows that the tests are pytest's, or None."""
    if named := {"pytest.ini", "conftest.py", "tests/conftest.py"} & set(files):
        return f"{min(named)} is pytest's"
    if "pytest" in _table(project, "tool"):
        return "pyproject.toml configures pytest"
    sections = {"setup.cfg": "[tool:pytest]", "tox.ini": "[pytest]"}
    for name, section in sections.items():
        if section in text_of(files, name):
            return f"{name} configures pytest"
    if PYTEST.search(required):
        return "pytest is among the requirements"
    return _pytest_style(files)


def _pytest_style(files: Files) -> str | None:
    """A test file whose functions unittest would not find."""
    for name in sorted(filter(TEST_FILE.fullmatch, files)):
        text = text_of(files, name)
        if re.search(r"^(async )?def test_|^import pytest|^from pytest", text, re.MULTILINE):
            return f"{name} is written for pytest"
    return None


def _unittest(files: Files) -> tuple[str | None, str]:
    """The interpreter's arguments that run the unittest files (None without such files), and the reason."""
    folders = {name.rpartition("/")[0] for name in files if TEST_FILE.fullmatch(name)}
    if not folders:
        return None, "a project, but no test files were found"
    if all(folder.split("/")[0] in {"tests", "test"} for folder in folders):
        folder = min(folders).split("/")[0]
        top = " -t ." if f"{folder}/__init__.py" in files else ""
        return f"-m unittest discover -s {folder}{top}", f"{folder}/ holds unittest files"
    return "-m unittest discover -p '*test*.py'", "test files for unittest"


def _installs(files: Files, project: dict[str, Any]) -> Iterator[str]:
    for name in sorted(filter(REQUIREMENTS.fullmatch, files)):
        if _is_wanted(name) and _has_lines(text_of(files, name)):
            yield _pip(f"-r {name}")
    if "build-system" in project or "setup.py" in files:
        extras = ",".join(name for name in TEST_GROUPS if name in _extras(project))
        yield _pip(f"-e '.[{extras}]'" if extras else "-e .")
    elif needed := [*_dependencies(project), *_grouped(_extras(project))]:
        yield _pip(shlex.join(needed))
    if needed := _grouped(_table(project, "dependency-groups")):
        yield _pip(shlex.join(needed))


def _pip(what: str) -> str:
    return f"{PYTHON} -m pip install {what}"


def _is_wanted(name: str) -> bool:
    """True for `requirements.txt` and those for tests; others, for documents or a release, are not needed."""
    return name == "requirements.txt" or any(word in name for word in ("test", "dev"))


def _has_lines(text: str) -> bool:
    return any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines())


def _required(files: Files, project: dict[str, Any]) -> str:
    """Everything that `_installs` would install by name, one requirement a line."""
    names = [name for name in files if REQUIREMENTS.fullmatch(name) and _is_wanted(name)]
    groups = _table(project, "dependency-groups")
    declared = [*_dependencies(project), *_grouped(_extras(project)), *_grouped(groups)]
    return "\n".join([*declared, *(text_of(files, name) for name in names)])


def _dependencies(project: dict[str, Any]) -> list[str]:
    return _strings(_table(project, "project").get("dependencies"))


def _extras(project: dict[str, Any]) -> dict[str, Any]:
    return _table(_table(project, "project"), "optional-dependencies")


def _grouped(groups: dict[str, Any]) -> list[str]:
    """The requirements of the groups for tests, each once."""
    return list(dict.fromkeys(needed for name in TEST_GROUPS for needed in _strings(groups.get(name))))


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}


def _table(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _strings(value: object) -> list[str]:
    """The printable, single-line texts of a list; whatever else is in it is passed over."""
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, str) and item.strip() and item.isprintable()]
