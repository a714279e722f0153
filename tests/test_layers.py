"""The shape of the source: who imports whom, what the ground floor may touch, how long a function may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "fsmrt"

# Floor by module; the longest name that is the module itself or a package around it counts.
FLOORS = {
    "words": (
        "errors", "messages", "orders", "result", "settings", "placement", "verdict", "states", "plan", "contract",
        "outcome",
        "evidence.identity", "evidence.health",
    ),
    "hands": (
        "limits", "lease", "reaper", "repository", "contract_files", "survey", "request", "targets",
        "sandbox", "evidence", "opencode",
    ),
    "actors": ("actors",),
    "rooms": (
        "", "__main__", "control", "supervisor", "openrun", "opening", "description", "session", "sync", "batch",
        "integrations", "cli",
    ),
    "apart": ("testing", "helpers"),
}  # fmt: skip
HEIGHT = {"words": 0, "hands": 1, "actors": 2, "rooms": 3}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}

EFFECTS = {
    "anyio", "asyncio", "fcntl", "http.client", "http.server", "httpx", "mmap", "multiprocessing", "resource",
    "select", "selectors", "shutil", "signal", "socket", "subprocess", "tempfile", "threading", "time",
    "trio", "urllib.request",
}  # fmt: skip
PURE_OS = {"path", "sep", "fspath", "PathLike", "fsencode", "fsdecode", "strerror"}
LONGEST = 80


class Module:
    """One source file: its dotted name below the package, and its syntax tree."""

    def __init__(self, path: Path) -> None:
        self.path = path
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        self.is_package = parts[-1] == "__init__"
        self.name = ".".join(parts[:-1] if self.is_package else parts)
        self.tree = ast.parse(path.read_bytes())

    def __repr__(self) -> str:
        return self.name or PACKAGE

    @property
    def floor(self) -> str | None:
        """The floor of the nearest name that has one; None if nobody has decided it."""
        names = self.name.split(".")
        nearest = (".".join(names[:length]) for length in range(len(names), 0, -1))
        return next((FLOOR_OF[name] for name in nearest if name in FLOOR_OF), None)

    def imports(self) -> Iterator[str]:
        """Every module imported anywhere in the file, by its absolute name."""
        for node in ast.walk(self.tree):
            yield from self._named_by(node)

    def imports_when_loaded(self) -> Iterator[str]:
        """Those imported while the module itself is being imported."""
        for node in _run_at_import(self.tree.body):
            yield from self._named_by(node)

    def _named_by(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = self._origin(node)
            for alias in node.names:
                below = f"{origin}.{alias.name}"
                yield below if below in FULL_NAMES else origin

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        around = [PACKAGE, *filter(None, self.name.split("."))]
        up = node.level - self.is_package
        base = around[: len(around) - up] if up else around
        return ".".join([*base, node.module] if node.module else base)


def _run_at_import(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """The statements of a body and of its blocks, without functions and `if TYPE_CHECKING`."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from _run_at_import(node.orelse)
            continue
        yield node
        for block in ("body", "orelse", "finalbody"):
            yield from _run_at_import(getattr(node, block, []))
        for handler in getattr(node, "handlers", []):
            yield from _run_at_import(handler.body)


def _full(name: str) -> str:
    return f"{PACKAGE}.{name}" if name else PACKAGE


def _ours(names: Iterator[str]) -> list[Module]:
    return [BY_FULL_NAME[name] for name in names if name in BY_FULL_NAME]


PATHS = sorted((ROOT / PACKAGE).rglob("*.py"))
MODULES = [Module(path) for path in PATHS]
BY_FULL_NAME = {_full(module.name): module for module in MODULES}
FULL_NAMES = frozenset(BY_FULL_NAME)
WORDS = [module for module in MODULES if module.floor == "words"]

each_module = pytest.mark.parametrize("module", MODULES, ids=repr)
each_word = pytest.mark.parametrize("module", WORDS, ids=repr)


@each_module
def test_every_module_stands_on_a_floor(module: Module) -> None:
    assert module.floor is not None, f"{module.name}: decide its floor and write it down in FLOORS"


@each_module
def test_imports_never_go_up(module: Module) -> None:
    for other in _ours(module.imports()):
        assert _may_import(module, other), f"{module} ({module.floor}) imports {other} ({other.floor})"


def _may_import(module: Module, other: Module) -> bool:
    """What stands apart is for users and for sandboxes: it imports what it likes, and nothing imports it."""
    if module.floor == "apart":
        return True
    return other.floor in HEIGHT and HEIGHT[other.floor] <= HEIGHT.get(str(module.floor), -1)


def test_helpers_know_nothing_of_the_package() -> None:
    """They run under any python3 in any image."""
    helpers = [module for module in MODULES if module.name.startswith("helpers.")]
    assert {module.name: _ours(module.imports()) for module in helpers if _ours(module.imports())} == {}


def test_no_circle_of_imports() -> None:
    graph = {module.name: {other.name for other in _ours(module.imports_when_loaded())} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("a circle of imports: " + " -> ".join(_full(name) for name in error.args[1]))


@each_word
def test_words_never_wait(module: Module) -> None:
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    found = [node.lineno for node in ast.walk(module.tree) if isinstance(node, waiting)]
    assert found == [], f"{module.path}: lines {found}"


@each_word
def test_words_touch_nothing(module: Module) -> None:
    assert sorted(EFFECTS & set(module.imports())) == []
    assert sorted(_effects_of(module.tree)) == []


def _effects_of(tree: ast.AST) -> Iterator[str]:
    """Uses of `os` that reach the machine, and opened files."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "os" and node.attr not in PURE_OS:
                yield f"line {node.lineno}: os.{node.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
            yield f"line {node.lineno}: open()"


@each_module
def test_no_function_is_longer_than_a_screen(module: Module) -> None:
    for node in ast.walk(module.tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= LONGEST, f"{module.path}:{node.lineno}: {node.name} has {lines} lines"


def test_the_rules_find_what_they_forbid() -> None:
    tree = ast.parse("import os\nos.path.join('a')\nos.unlink('a')\nopen('b')\n")
    assert sorted(_effects_of(tree)) == ["line 3: os.unlink", "line 4: open()"]
    body = ast.parse("if TYPE_CHECKING:\n import a\nelse:\n import b\ndef f():\n import c\n").body
    named = [
        alias.name for node in _run_at_import(body) if isinstance(node, ast.Import) for alias in node.names
    ]
    assert named == ["b"]
