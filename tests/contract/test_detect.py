from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fsmrt.contract.bootstrap import read_bootstrap
from fsmrt.contract.detect import Proposal, propose, wants_contents
from fsmrt.contract.pipeline import read_pipeline

Files = dict[str, bytes | None]

PIP = ".aider_fsm/venv/bin/python -m pip install"
PYTEST = '"$AIDER_FSM_PYTHON" -m pytest'

CASES: dict[str, tuple[Files, tuple[str, ...], list[str], list[str]]] = {
    # files, kinds found, test commands, bootstrap commands after the one that makes the venv
    "nothing": ({"README.md": None}, (), [], []),
    "pytest by requirement": (
        {"requirements.txt": b"requests\npytest>=8\n", "tests/test_a.py": b""},
        ("python",), [PYTEST], [f"{PIP} -r requirements.txt"],
    ),
    "requirements for tests, not for documents": (
        {"requirements-test.txt": b"pytest", "requirements-docs.txt": b"a", "requirements.txt": b"# none"},
        ("python",), [PYTEST], [f"{PIP} -r requirements-test.txt"],
    ),
    "pytest by configuration": (
        {"pyproject.toml": b"[tool.pytest.ini_options]\n"},
        ("python",), [PYTEST], [f"{PIP} pytest"],
    ),
    "pytest by conftest": ({"conftest.py": None}, ("python",), [PYTEST], [f"{PIP} pytest"]),
    "pytest by style": (
        {"tests/test_a.py": b"def test_it():\n    assert True\n"},
        ("python",), [PYTEST], [f"{PIP} pytest"],
    ),
    "pytest by setup.cfg": (
        {"setup.py": None, "setup.cfg": b"[tool:pytest]\n"},
        ("python",), [PYTEST], [f"{PIP} -e .", f"{PIP} pytest"],
    ),
    "an extra for tests": (
        {"pyproject.toml": b"[build-system]\n[project.optional-dependencies]\ntest=['pytest']\n"},
        ("python",), [PYTEST], [f"{PIP} -e '.[test]'"],
    ),
    "dependencies of what is not a package": (
        {"pyproject.toml": b"[project]\ndependencies=['a>1']\n[dependency-groups]\ndev=['pytest', {}]\n"},
        ("python",), [PYTEST], [f"{PIP} 'a>1'", f"{PIP} pytest"],
    ),
    "unittest in a package": (
        {"tests/__init__.py": None, "tests/test_a.py": b"import unittest\n"},
        ("python",), ['"$AIDER_FSM_PYTHON" -m unittest discover -s tests -t .'], [],
    ),
    "unittest in a folder": (
        {"tests/test_a.py": None},
        ("python",), ['"$AIDER_FSM_PYTHON" -m unittest discover -s tests'], [],
    ),
    "unittest at the root": (
        {"sum_test.py": None},
        ("python",), ["\"$AIDER_FSM_PYTHON\" -m unittest discover -p '*test*.py'"], [],
    ),
    "a package without tests": ({"setup.py": None}, ("python",), [], [f"{PIP} -e ."]),
    "npm": ({"package.json": b'{"scripts": {"test": "jest"}}'}, ("node",), ["npm test"], []),
    "npm, locked": (
        {"package.json": b'{"scripts": {"test": "x"}, "dependencies": {"x": ""}}', "package-lock.json": None},
        ("node",), ["npm test"], ["npm ci --no-audit --no-fund"],
    ),
    "npm, not locked, without tests": (
        {"package.json": b'{"scripts": {"test": "echo no test specified"}, "dependencies": {"x": "1"}}'},
        ("node",), [], ["npm install --no-audit --no-fund"],
    ),
    "pnpm by lock": (
        {"package.json": b'{"scripts": {"test": "x"}, "dependencies": {"x": "1"}}', "pnpm-lock.yaml": None},
        ("node",), ["pnpm test"], ["pnpm install --frozen-lockfile"],
    ),
    "yarn, classic": (
        {"package.json": b'{"scripts": {"test": "x"}, "dependencies": {"x": "1"}}', "yarn.lock": None},
        ("node",), ["yarn test"], ["yarn install --frozen-lockfile"],
    ),
    "yarn, by its own word": (
        {"package.json": b'{"packageManager": "yarn@4", "scripts": {"test": "x"}, "dependencies": {"x": ""}}',
         "yarn.lock": None},
        ("node",), ["yarn test"], ["yarn install --immutable"],
    ),
    "go": ({"go.mod": b"module x\n"}, ("go",), ["go test ./..."], []),
    "rust": ({"Cargo.toml": b"", "Cargo.lock": None}, ("rust",), ["cargo test --locked"], []),
    "make test": ({"Makefile": b"check: all\nall test: x\n\ttrue\n"}, ("make",), ["make test"], []),
    "make check": ({"makefile": b"CHECK := 1\ncheck:\n\ttrue\n"}, ("make",), ["make check"], []),
    "a variable is no target": ({"Makefile": b"test := 1\ncheck ::= 2\n"}, (), [], []),
    "just": ({"justfile": b"test filter='':\n  true\n"}, ("just",), ["just test"], []),
    "make is not asked where a language answers": (
        {"go.mod": None, "Makefile": b"test:\n\tgo test ./...\n"}, ("go",), ["go test ./..."], [],
    ),
    "several": (
        {"go.mod": None, "package.json": b'{"scripts": {"test": "jest"}}', "tests/test_a.py": None},
        ("python", "node", "go"),
        ['"$AIDER_FSM_PYTHON" -m unittest discover -s tests', "npm test", "go test ./..."], [],
    ),
    "broken files": (
        {"package.json": b"{", "pyproject.toml": b"[[", "Makefile": b"\xff"}, ("python", "node"), [], [],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("files", "found", "tests", "prepared"), CASES.values(), ids=CASES)
def test_a_repository_gets_what_its_files_support(
    files: Files, found: tuple[str, ...], tests: list[str], prepared: list[str]
) -> None:
    proposal = propose(files)
    assert proposal.found == found
    assert _loaded(proposal.pipeline_yml)["tests"]["cmds"] == tests
    commands = _loaded(proposal.bootstrap_yml or "{}").get("cmds", [])
    assert [command for command in commands if "-m venv" not in command] == prepared
    assert_acceptable(proposal)


def test_a_venv_is_made_first_and_used_by_the_stages() -> None:
    text = propose({"conftest.py": None}).bootstrap_yml
    assert text is not None
    bootstrap = _loaded(text)
    assert "python3 -m venv" in bootstrap["cmds"][0]
    assert bootstrap["env"] == {
        "PATH": ".aider_fsm/venv/bin:$PATH",
        "AIDER_FSM_PYTHON": ".aider_fsm/venv/bin/python",
    }


def test_an_image_is_named_only_where_one_kind_needs_it() -> None:
    assert _loaded(propose({"go.mod": None}).pipeline_yml)["sandbox"] == {"image": "golang:1"}
    assert "sandbox" not in _loaded(propose({"go.mod": None, "Cargo.toml": None}).pipeline_yml)
    assert "sandbox" not in _loaded(propose({"conftest.py": None}).pipeline_yml)


def test_nothing_recognised_is_said() -> None:
    proposal = propose({})
    assert proposal.bootstrap_yml is None
    assert proposal.reasons == ("no project file was recognised",)
    assert "nothing is claimed" in proposal.pipeline_yml


NAMES = st.text(max_size=20) | st.sampled_from(
    ["package.json", "yarn.lock", "go.mod", "Cargo.toml", "Makefile", "justfile", "requirements.txt",
     "requirements-dev.txt",  "pyproject.toml", "setup.py", "setup.cfg", "tox.ini", "conftest.py",
     "tests/test_x.py"]
)  # fmt: skip
CONTENTS = st.none() | st.binary(max_size=60) | st.sampled_from(
    [b'{"scripts": {"test": "x"}, "dependencies": {"y": "1"}}', b"test:\n", b"pytest\n", b"[" * 5000,
     b"[project]\ndependencies = ['a', \"b'c\", 1]\n",
     b"[build-system]\n[project.optional-dependencies]\ntest = ['pytest']\n",
     b"[dependency-groups]\ntest = [\"x\\n- y\", \"\\u0085\", \"it's; python_version < '4'\"]\n"]
)  # fmt: skip


@given(st.dictionaries(NAMES, CONTENTS, max_size=6))
def test_any_files_give_an_acceptable_contract(files: Files) -> None:
    proposal = propose(files)
    assert_acceptable(proposal)
    assert propose(dict(reversed(files.items()))) == proposal


def test_contents_are_wanted_only_where_they_help() -> None:
    wanted = ["package.json", "requirements-dev.txt", "tests/unit/test_a.py", "Makefile"]
    assert [
        name for name in [*wanted, "README.md", "src/a.py", "sub/package.json"] if wants_contents(name)
    ] == wanted


def assert_acceptable(proposal: Proposal) -> None:
    """`fsmrt check` would have nothing to say about it, not even a remark."""
    assert read_pipeline(proposal.pipeline_yml.encode()).problems == ()
    if proposal.bootstrap_yml is not None:
        assert read_bootstrap(proposal.bootstrap_yml.encode()).problems == ()


def _loaded(text: str) -> dict[str, Any]:
    value = yaml.safe_load(text)
    assert isinstance(value, dict)
    return value
