"""Bytes to a YAML node tree that is safe to walk, or the one sentence that says why not.

Values are taken from nodes, not from loaded Python objects, because only nodes know their line and column.
Two things must be settled before libyaml's composer may see the text, since it recurses in C and ends the
whole process when the stack is gone: how deep the text nests, and that it is UTF-8. What aliases make of the
tree is settled after composing and without expanding anything: every anchored node is measured once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, NoReturn

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_BYTES = 1024 * 1024
MAX_NODES = 100_000
MAX_DEPTH = 100
MAX_NUMBER = 4300
"""Letters of a number: as many digits as Python converts, and base 60 takes the square of them in time."""

_TAG = "tag:yaml.org,2002:"
STR, NULL, BOOL, INT, FLOAT = _TAG + "str", _TAG + "null", _TAG + "bool", _TAG + "int", _TAG + "float"
TIMESTAMP, BINARY, MERGE = _TAG + "timestamp", _TAG + "binary", _TAG + "merge"
SEQ, MAP = _TAG + "seq", _TAG + "map"

TEXT_TAGS = frozenset({STR, MERGE, _TAG + "value", _TAG + "yaml"})
"""Plain `=` and `<<` as values are texts here; the safe loader itself stumbles over them."""
_SCALAR_TAGS = TEXT_TAGS | {NULL, BOOL, INT, FLOAT, TIMESTAMP, BINARY}
_COLLECTION_TAGS: dict[type[Node], frozenset[str]] = {
    SequenceNode: frozenset({SEQ, _TAG + "omap", _TAG + "pairs"}),
    MappingNode: frozenset({MAP, _TAG + "set"}),
}

_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_IMPLICIT: dict[str, list[tuple[str, re.Pattern[str]]]] = _SafeLoader.yaml_implicit_resolvers
_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
_UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_BLOCK_RUN = re.compile(rb"[ \t?:-]{2,}")


class Unreadable(Exception):
    """The file cannot be read at all; nothing in it was looked at. Line and column are 1-based."""

    def __init__(
        self, code: str, message: str, line: int = 1, column: int = 1, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.line, self.column, self.hint = code, message, line, column, hint


class _NodeLoader(_SafeLoader):  # type: ignore[misc]
    """The safe loader's tags without its path resolvers, which it does not have and pays for at every node."""

    def descend_resolver(self, parent: Node | None, index: object) -> None:
        pass

    def ascend_resolver(self) -> None:
        pass

    def resolve(self, kind: type[Node], value: str, implicit: tuple[bool, bool]) -> str:
        if kind is not ScalarNode:
            return SEQ if kind is SequenceNode else MAP
        if implicit[0]:
            for tag, pattern in _IMPLICIT.get(value[0] if value else "", ()):
                if pattern.match(value):
                    return tag
        return STR


def compose(data: bytes) -> Node | None:
    """The document's root node, None where there is no document; raises `Unreadable`.

    The tree has at most `MAX_NODES` nodes and `MAX_DEPTH` levels however its aliases are followed, no cycle,
    no tag but the standard ones, and only scalars as keys.
    """
    text = _decode(data)
    if not text.strip():
        return None
    try:
        if _may_be_deep(data):
            _refuse_depth(yaml.parse(text, Loader=_NodeLoader))
        root = _NodeLoader(text).get_single_node()
    except yaml.YAMLError as error:
        raise _explained(error, text) from None
    if root is not None:
        _Survey().root(root)
    return root  # type: ignore[no-any-return]


def _decode(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise Unreadable("file_too_large", f"is {len(data):,} bytes long; at most {MAX_BYTES:,} are read")
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line, column = _position(data[: error.start].decode("utf-8"), error.start)
        found = f"the byte 0x{data[error.start]:02x} is not UTF-8 ({error.reason})"
        raise Unreadable("file_not_utf8", found, line, column, "save the file as UTF-8") from None


def _may_be_deep(data: bytes) -> bool:
    """Whether the text could nest deeper than `MAX_DEPTH`; cheap, and never wrong about a no.

    A flow level costs a bracket. A block level starts in a deeper column than its parent (an unindented list
    in the same one), so within one line only a run of indentation and indicators can open several.
    `${` never opens a flow mapping: the dollar sign has begun a plain text.
    """
    flow = data.count(b"[") + data.count(b"{") - data.count(b"${")
    run = max(map(len, _BLOCK_RUN.findall(data)), default=1)
    return flow + 2 * run + 4 > MAX_DEPTH


def _refuse_depth(events: Iterable[Any]) -> None:
    depth = 0
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            mark = event.start_mark
            raise Unreadable("yaml_syntax", _too_deep(), mark.line + 1, mark.column + 1)


def _too_deep() -> str:
    return f"lists and mappings are nested more than {MAX_DEPTH} levels deep"


class _Survey:
    """Measures a tree as if its aliases were expanded, visiting each node once."""

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._measured: dict[int, tuple[int, int]] = {}

    def root(self, node: Node) -> None:
        if isinstance(node, ScalarNode):
            _check_scalar(node)
        else:
            self._measure(node)

    def _measure(self, node: Node) -> tuple[int, int]:
        """Nodes and levels below and with this list or mapping."""
        known = self._measured.get(id(node))
        if known is not None:
            return known
        if id(node) in self._open:
            _refuse(node, "an alias refers to the structure that contains it")
        self._open.add(id(node))
        measured = self._measure_children(node)
        self._open.remove(id(node))
        self._measured[id(node)] = measured
        return measured

    def _measure_children(self, node: Node) -> tuple[int, int]:
        _check_collection(node)
        count, depth = 1, 1
        for child in _children(node):
            if isinstance(child, ScalarNode):
                _check_scalar(child)
                count += 1
            else:
                more, deeper = self._measure(child)
                count += more
                depth = max(depth, deeper + 1)
        if count > MAX_NODES:
            _refuse(node, f"aliases and lists expand to more than {MAX_NODES:,} nodes", "file_too_large")
        if depth > MAX_DEPTH:
            _refuse(node, _too_deep())
        return count, depth


def _children(node: Node) -> list[Node]:
    if isinstance(node, SequenceNode):
        items: list[Node] = node.value
        return items
    for key, _ in node.value:
        if not isinstance(key, ScalarNode):
            _refuse(key, "a key must be a single value, not a list or a mapping")
    return [part for pair in node.value for part in pair]


def _check_scalar(node: ScalarNode) -> None:
    if node.tag not in _SCALAR_TAGS:
        _refuse_tag(node)
    if len(node.value) > MAX_NUMBER and node.tag in (INT, FLOAT):
        _refuse(node, f"a number has more than {MAX_NUMBER:,} digits", hint="quote it, if it is a text")
    if not node.value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in node.value):
        _refuse(node, "half of a surrogate pair is not a character")


def _check_collection(node: Node) -> None:
    if node.tag not in _COLLECTION_TAGS[type(node)]:
        _refuse_tag(node)


def _refuse_tag(node: Node) -> NoReturn:
    tag = node.tag.replace(_TAG, "!!")
    _refuse(node, f"the tag {tag} cannot be used here; contracts are plain YAML", hint="remove the tag")


def _refuse(node: Node, message: str, code: str = "yaml_syntax", hint: str | None = None) -> NoReturn:
    raise Unreadable(code, message, node.start_mark.line + 1, node.start_mark.column + 1, hint)


def _explained(error: yaml.YAMLError, text: str) -> Unreadable:
    """PyYAML's error in one line, at the place it means."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        sentence = ", ".join(filter(None, (error.context, error.problem))) or "is not YAML"
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        at = text[mark.index : mark.index + 1] if mark is not None else ""
        return Unreadable("yaml_syntax", sentence, line, column, _advice(sentence, at))
    found = _UNPRINTABLE.search(text)
    if found is None:
        return Unreadable("yaml_syntax", " ".join(str(error).split()))
    line, column = _position(text[: found.start()], found.start())
    return Unreadable("yaml_syntax", f"the character U+{ord(found[0]):04X} is not allowed", line, column)


_ADVICE = {
    "single document": "keep one document: remove everything from the second `---` on",
    "mapping values are not allowed": "quote texts that contain `: `",
    "found undefined alias": "define the anchor (`&name`) above its alias, or quote a text beginning with `*`",
    "cannot start any token": "quote texts that begin with a special character such as `@`, `%` or a backtick",
}


def _advice(sentence: str, at: str) -> str | None:
    if at == "\t":
        return "indent with spaces, not tabs"
    return next((advice for part, advice in _ADVICE.items() if part in sentence), None)


def _position(before: str, offset: int) -> tuple[int, int]:
    breaks = list(_BREAK.finditer(before))
    return len(breaks) + 1, len(before) - (breaks[-1].end() if breaks else 0) + 1


def python_value(node: Node) -> object:
    """What PyYAML's safe loader makes of the node; raises `ValueError` where the text does not fit its tag.

    The implicit tags match texts that are no value (a date of month 13), and PyYAML then fails in several ways.
    """
    try:
        return SafeConstructor().construct_document(node)
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, AttributeError, TypeError) as error:
        raise ValueError(" ".join(str(error).split())) from None


_SHOWN = 40
_KINDS = {BOOL: "the boolean", INT: "the number", FLOAT: "the number", TIMESTAMP: "the date"}


def found(node: Node) -> str:
    """What stands there, for a message: `the boolean true`, `a list`, `the text "abc"`."""
    if not isinstance(node, ScalarNode):
        empty = "" if node.value else "n empty"
        return f"a{empty} {'list' if isinstance(node, SequenceNode) else 'mapping'}"
    if node.tag == NULL:
        return "null"
    if node.tag in _KINDS:
        return f"{_KINDS[node.tag]} {shortened(node.value)}"
    return f"the text {json.dumps(shortened(node.value), ensure_ascii=False)}"


def shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
