"""Mappings of a contract: merged keys, duplicates, unknown keys, and one rule for each known key."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from .reading import Notes
from .spelling import nearest
from .yaml_nodes import MAP, MERGE, NULL, found

Rule = Callable[[Notes, Node, str], Any]
"""Reads one value that is not null. Gives `UNSET` where the default stays: unset on purpose, or in error."""

Entries = dict[str, tuple[ScalarNode, Node]]
"""Name of a key -> the key and its value, in file order."""

_PLAIN_KEY = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class Fields(msgspec.Struct, frozen=True):
    """What a section may contain: a rule for each key, and which key is another spelling of which list."""

    rules: Mapping[str, Rule]
    aliases: Mapping[str, str] = {}

    def joined(self, other: Fields) -> Fields:
        """Both sets of fields as one."""
        return Fields({**self.rules, **other.rules}, {**self.aliases, **other.aliases})


def child(path: str, key: str) -> str:
    """JSON path of a key, in brackets where a dot would be misread."""
    if _PLAIN_KEY.fullmatch(key):
        return f"{path}.{key}"
    return f"{path}[{json.dumps(key, ensure_ascii=False)}]"


def is_null(node: Node) -> bool:
    return node.tag == NULL


def is_mapping(notes: Notes, node: Node, path: str, *, null_allowed: bool = True) -> bool:
    """Whether the node is a mapping; a problem if not. Null is a section that is absent, silently."""
    if isinstance(node, MappingNode) and node.tag == MAP:
        return True
    if not (null_allowed and is_null(node)):
        kind = "a YAML mapping (dict) at the top level" if path == "$" else "a mapping"
        notes.error("not_a_mapping", node, path, f"{notes.label(path)} must be {kind}, found {found(node)}")
    return False


def written_key(node: ScalarNode) -> str:
    return node.value  # type: ignore[no-any-return]


def entries(
    notes: Notes, node: Node, path: str, name: Callable[[ScalarNode], str | None] = written_key
) -> Entries:
    """The keys of a mapping with `<<` merged below them. A key given twice is a problem; the last counts."""
    own: Entries = {}
    merged: list[Node] = []
    for key, value in node.value:
        if key.tag == MERGE:
            merged.append(value)
            continue
        text = name(key)
        if text is None:
            continue
        if text in own:
            _note_duplicate(notes, key, child(path, text), own[text][0])
        own[text] = (key, value)
    return {**_merged(notes, merged, path, name), **own} if merged else own


def _note_duplicate(notes: Notes, key: ScalarNode, path: str, first: ScalarNode) -> None:
    line = first.start_mark.line + 1
    message = f"the key is given twice, first in line {line}; the last one counts"
    notes.strict("duplicate_key", key, path, message, "remove one of them")


def _merged(notes: Notes, values: list[Node], path: str, name: Callable[[ScalarNode], str | None]) -> Entries:
    """What `<<` brings in: of one list the first mapping wins, of several `<<` the last."""
    result: Entries = {}
    for value in values:
        sources = value.value if isinstance(value, SequenceNode) else [value]
        for source in reversed(sources):
            if isinstance(source, MappingNode):
                result.update(entries(notes, source, path, name))
            else:
                message = f"`<<` merges a mapping or a list of mappings, found {found(source)}"
                notes.error("yaml_syntax", source, f"{path}['<<']", message)
    return result


def known_entries(notes: Notes, node: Node, path: str, known: Mapping[str, object]) -> Entries:
    """The entries with a known key and a value; unknown keys are problems, keys that begin `x-` are not."""
    given = entries(notes, node, path)
    for name, (key, _) in given.items():
        if name not in known and not name.startswith("x-"):
            _note_unknown(notes, key, name, path, known)
    return {name: entry for name, entry in given.items() if name in known and not is_null(entry[1])}


def _note_unknown(notes: Notes, key: ScalarNode, name: str, path: str, known: Mapping[str, object]) -> None:
    near = nearest(name, known)
    where = notes.label(path)
    if near is not None:
        message, suggestion = f"{where} has no such key; did you mean {near}?", f"write {near}"
    else:
        message = f"{where} has no such key"
        suggestion = f"use one of {', '.join(known)}; a key of your own begins with x-"
    notes.strict("unknown_key", key, child(path, name), message, suggestion)


def drop_ignored_aliases(notes: Notes, given: Entries, path: str, aliases: Mapping[str, str]) -> None:
    """Where a key and its alias both have a value, the alias goes, with a problem."""
    for alias, name in aliases.items():
        if alias in given and name in given:
            note_ignored_alias(notes, given.pop(alias)[0], f"{path}.{alias}", name)


def note_ignored_alias(notes: Notes, key: Node, path: str, name: str) -> None:
    notes.strict("alias_ignored", key, path, f"is ignored, because {name} is given too", "remove one of them")


def read_fields(notes: Notes, given: Entries, path: str, fields: Fields) -> dict[str, Any]:
    """The values of a section by field name; fields that stay at their default are not in it."""
    drop_ignored_aliases(notes, given, path, fields.aliases)
    values: dict[str, Any] = {}
    for name, (_, node) in given.items():
        value = fields.rules[name](notes, node, f"{path}.{name}")
        if value is not msgspec.UNSET:
            values[fields.aliases.get(name, name)] = value
    return values


def section(kind: type[msgspec.Struct], fields: Fields) -> Rule:
    """The rule of a section: a mapping of these fields becomes a value of that type."""

    def read(notes: Notes, node: Node, path: str) -> Any:
        if not is_mapping(notes, node, path):
            return msgspec.UNSET
        given = known_entries(notes, node, path, fields.rules)
        return kind(**read_fields(notes, given, path, fields))

    return read


def list_of(item: Callable[[Notes, Node, str, int], Any], what: str) -> Rule:
    """The rule of a list; `item` also gets the position, and gives `UNSET` for what is in error."""

    def read(notes: Notes, node: Node, path: str) -> Any:
        if not isinstance(node, SequenceNode):
            notes.error(
                "not_a_list", node, path, f"{notes.label(path)} must be a list of {what}, found {found(node)}"
            )
            return msgspec.UNSET
        items = [item(notes, each, f"{path}[{index}]", index) for index, each in enumerate(node.value)]
        return tuple(each for each in items if each is not msgspec.UNSET)

    return read
