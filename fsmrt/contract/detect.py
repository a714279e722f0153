"""A first contract, proposed from what a repository shows.

One function for each kind of project looks at the files and answers with a `Finding`: the commands that
prepare it, the commands that test it, and why. `propose` joins the findings and has them written as YAML.
Nothing is proposed that no file supports: a repository that shows nothing gets a contract which asks for
nothing and says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec

from . import proposed_yaml, python_project
from .repository_files import Files, Finding, text_of

MAKEFILES = ("GNUmakefile", "makefile", "Makefile")  # the order in which make itself looks
JUSTFILES = ("justfile", ".justfile", "Justfile")
NO_TEST_YET = "no test specified"  # what `npm init` writes where a test command should be
# What stands before a colon, unless the colon begins an assignment (`:=`, `::=`).
MAKE_TARGETS = re.compile(r"^([^\s#:=][^#:=\n]*):(?!:?=)", re.MULTILINE)
JUST_RECIPE = re.compile(r"^@?([\w-]+)(?:[ \t][^:\n]*)?:(?!=)", re.MULTILINE)
READ_AT_ROOT = frozenset({"package.json", "go.mod", "Cargo.toml", *MAKEFILES, *JUSTFILES})


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a first contract, and where each part of it came from."""

    pipeline_yml: str
    bootstrap_yml: str | None
    """None where there is nothing to prepare."""
    found: tuple[str, ...]
    """The kinds of project recognised: `python`, `node`, `go`, `rust`, `make`, `just`."""
    reasons: tuple[str, ...]


def wants_contents(name: str) -> bool:
    """True for a file whose contents `propose` can use; of every other file the name is enough."""
    return name in READ_AT_ROOT or python_project.wants_contents(name)


def propose(files: Files) -> Proposal:
    """A contract for a repository with these files (path relative to its root -> contents, or None).

    Unreadable or malformed contents count as empty. The same files always give the same text. Task runners
    (make, just) are asked only where no language offers a test command, lest the same tests run twice.
    """
    findings = _found_by((python_project.find, _node, _go, _rust), files)
    if not any(finding.tests for finding in findings):
        findings += _found_by((_make, _just), files)[:1]
    prepare = tuple(command for finding in findings for command in finding.prepare)
    env = {name: value for finding in findings for name, value in finding.env.items()}
    reasons = tuple(finding.reason for finding in findings)
    return Proposal(
        pipeline_yml=proposed_yaml.pipeline(_tests(findings), reasons, _image(findings)),
        bootstrap_yml=proposed_yaml.bootstrap(prepare, env) if prepare else None,
        found=tuple(finding.kind for finding in findings),
        reasons=reasons or ("no project file was recognised",),
    )


def _found_by(looks: tuple[Callable[[Files], Finding | None], ...], files: Files) -> list[Finding]:
    return [finding for look in looks if (finding := look(files)) is not None]


def _tests(findings: list[Finding]) -> tuple[str, ...]:
    return tuple(command for finding in findings for command in finding.tests)


def _image(findings: list[Finding]) -> str | None:
    """The image of the only kind found: where there are several, no one image is known to serve them all."""
    return findings[0].image if len(findings) == 1 else None


def _node(files: Files) -> Finding | None:
    if "package.json" not in files:
        return None
    package = _json_object(text_of(files, "package.json"))
    manager = _node_manager(package, files)
    test = _table(package, "scripts").get("test")
    tested = isinstance(test, str) and test.strip() != "" and NO_TEST_YET not in test
    needs = any(_table(package, key) for key in ("dependencies", "devDependencies"))
    return Finding(
        kind="node",
        prepare=(_node_install(manager, package, files),) if needs else (),
        tests=(f"{manager} test",) if tested else (),
        image="node:22",
        reason=f"Node: package.json {'has' if tested else 'has no'} test script; {manager}",
    )


def _node_manager(package: dict[str, Any], files: Files) -> str:
    asked = str(package.get("packageManager", "")).partition("@")[0]
    if asked in {"npm", "pnpm", "yarn"}:
        return asked
    locks = {"pnpm-lock.yaml": "pnpm", "yarn.lock": "yarn"}
    return next((manager for lock, manager in locks.items() if lock in files), "npm")


def _node_install(manager: str, package: dict[str, Any], files: Files) -> str:
    if manager == "npm":
        locked = {"package-lock.json", "npm-shrinkwrap.json"} & set(files)
        return f"npm {'ci' if locked else 'install'} --no-audit --no-fund"
    lock = {"pnpm": "pnpm-lock.yaml", "yarn": "yarn.lock"}[manager]
    if lock not in files:
        return f"{manager} install"
    modern_yarn = manager == "yarn" and not str(package.get("packageManager", "yarn@1")).startswith("yarn@1")
    return f"{manager} install {'--immutable' if modern_yarn else '--frozen-lockfile'}"


def _go(files: Files) -> Finding | None:
    if "go.mod" not in files:
        return None
    return Finding(kind="go", tests=("go test ./...",), image="golang:1", reason="Go: go.mod")


def _rust(files: Files) -> Finding | None:
    if "Cargo.toml" not in files:
        return None
    command = "cargo test --locked" if "Cargo.lock" in files else "cargo test"
    return Finding(kind="rust", tests=(command,), image="rust:1", reason="Rust: Cargo.toml")


def _make(files: Files) -> Finding | None:
    return _target_of("make", MAKEFILES, MAKE_TARGETS, files)


def _just(files: Files) -> Finding | None:
    return _target_of("just", JUSTFILES, JUST_RECIPE, files)


def _target_of(runner: str, names: tuple[str, ...], targets: re.Pattern[str], files: Files) -> Finding | None:
    """A `test` or else a `check` target: an owner who has both usually means `test` by tests."""
    name = next((name for name in names if name in files), None)
    if name is None:
        return None
    known = {word for line in targets.findall(text_of(files, name)) for word in line.split()}
    target = next((wanted for wanted in ("test", "check") if wanted in known), None)
    if target is None:
        return None
    return Finding(kind=runner, tests=(f"{runner} {target}",), reason=f"{name} has a target `{target}`")


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _table(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}
