"""JSON Schemas of the contract files, for editors: generated from the model, widened to what reading accepts.

The model holds values after reading; files may say the same in more ways (a number as text, a word in upper
case, an alias, null). Each generated type is widened to those. A schema accepts every file in which reading
finds neither an error nor a `strict` problem. It is looser where JSON Schema cannot say the rule: regular
expressions, paths, duplicate keys, and keys that exclude each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec

from .actions import ACTION_KINDS
from .fields import MAX_INTEGER
from .model import Actions, Bootstrap, Pipeline
from .sandbox_wishes import NETWORK_LEVELS, NETWORK_STAGES

Which = Literal["pipeline", "bootstrap", "actions"]
Schema = dict[str, Any]

_ROOTS: dict[Which, type[msgspec.Struct]] = {"pipeline": Pipeline, "bootstrap": Bootstrap, "actions": Actions}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NULL: Schema = {"type": "null"}
_TEXT: Schema = {"type": "string", "pattern": r"\S"}
_COMMANDS: Schema = {"type": "array", "items": _TEXT}


def json_schema(which: Which = "pipeline") -> Schema:
    """The JSON Schema (2020-12) of one contract file, as it looks to a YAML 1.1 reader."""
    root = _ROOTS[which]
    schema = msgspec.json.schema(root)
    definitions = {name: _section(name, definition) for name, definition in schema["$defs"].items()}
    top = definitions.pop(root.__name__)
    top["properties"] = {**top["properties"], "version": _version(), **_EXTRA_KEYS.get(which, {})}
    return {"$schema": _DIALECT, **top, "title": f"fsmrt {which}.yml, version 1", "$defs": definitions}


def _section(name: str, definition: Schema) -> Schema:
    fields = {field: _field(name, field, shape) for field, shape in definition["properties"].items()}
    required = [field for field in definition["required"] if field != "id"]
    return {
        **definition,
        "properties": {**fields, **_aliases(name, fields)},
        "required": required,
        "patternProperties": {"^x-": {}},
    }


def _field(section: str, name: str, shape: Schema) -> Schema:
    """What a file may write for this field: its own forms, those of its type, or null."""
    forms = _SPECIAL.get(f"{section}.{name}") or _SPECIAL.get(name)
    accepted = forms() if forms is not None else _widened(name, shape)
    if name not in ("source", "target"):
        accepted = [*accepted, _NULL]
    return {**_remarks(shape), "anyOf": accepted}


def _remarks(shape: Schema) -> Schema:
    """Description and default of a generated field; defaults of whole sections would only be noise."""
    described: Schema = next((part for part in (shape, *shape.get("anyOf", ())) if "description" in part), {})
    remarks = {key: described[key] for key in ("description",) if described}
    if not isinstance(shape.get("default"), (dict, list, tuple, type(None))):
        remarks["default"] = shape["default"]
    return remarks


def _widened(name: str, shape: Schema) -> list[Schema]:
    if "anyOf" in shape:
        return [form for part in shape["anyOf"] if part != _NULL for form in _widened(name, part)]
    if "enum" in shape:
        return _words(shape["enum"])
    if shape.get("type") == "array" and name.endswith("cmds"):
        return [_COMMANDS]
    return _BY_TYPE.get(shape.get("type", ""), _as_it_is)(shape)


def _as_it_is(shape: Schema) -> list[Schema]:
    return [{key: value for key, value in shape.items() if key not in ("default", "description")}]


def _numbers(shape: Schema) -> list[Schema]:
    """0 unsets a limit; a minimum of 0 stays one."""
    return _integers(0)


def _integers(minimum: int) -> list[Schema]:
    text = r"^\s*(\+?[0-9]+|-0+)?\s*$"
    return [
        {"type": "integer", "minimum": minimum, "maximum": MAX_INTEGER},
        {"type": "string", "pattern": text},
    ]


def _strings(shape: Schema) -> list[Schema]:
    return [{"type": ["string", "number"]}]


def _booleans(shape: Schema) -> list[Schema]:
    return [
        {"type": "boolean"},
        {"enum": [0, 1]},
        *_words(("true", "false", "yes", "no", "on", "off", "1", "0"), blank=False),
    ]


def _environment(shape: Schema) -> list[Schema]:
    return [
        {
            "type": "object",
            "propertyNames": {"pattern": "^[^=\\u0000]*$"},
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        }
    ]


_BY_TYPE: dict[str, Callable[[Schema], list[Schema]]] = {
    "integer": _numbers,
    "string": _strings,
    "boolean": _booleans,
    "object": _environment,
}


def _words(words: Iterable[str], *, blank: bool = True) -> list[Schema]:
    """A closed set of words: as they are, for completion, and in any case with blanks around them."""
    listed = list(words)
    pattern = "|".join(_any_case(word) for word in listed)
    return [{"enum": listed}, {"type": "string", "pattern": rf"^\s*({pattern}){'?' if blank else ''}\s*$"}]


def _any_case(word: str) -> str:
    return "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in word)


def _version() -> Schema:
    return {
        "description": "The version of this format.",
        "anyOf": [{"enum": [1, 0, None]}, {"type": "string", "pattern": r"^\s*([+-]?0+|\+?0*1)\s*$"}],
    }


def _size() -> list[Schema]:
    text = r"^\s*([0-9]+(\.[0-9]+)?\s*([kmgtKMGT]?[iI]?[bB]?))?\s*$"
    return [{"type": "integer", "exclusiveMinimum": 0}, {"type": "string", "pattern": text}]


def _cpus() -> list[Schema]:
    text = r"^\s*([0-9]+(\.[0-9]+)?)?\s*$"
    return [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": text}]


def _gpus() -> list[Schema]:
    ids: Schema = {"type": "array", "items": {"type": ["integer", "number", "string"]}}
    return [*_words(("all",)), *_integers(0), ids]


def _user() -> list[Schema]:
    """Without quotes, some UID:GID are numbers in base 60 to YAML 1.1."""
    ids = {"type": "string", "pattern": r"^\s*[0-9]{1,10}:[0-9]{1,10}\s*$"}
    return [*_words(("caller", "image")), ids, {"type": "integer", "minimum": 0}]


def _network() -> list[Schema]:
    level: Schema = {"anyOf": [*_words(NETWORK_LEVELS), _NULL]}
    stages: Schema = {
        "type": "object",
        "properties": dict.fromkeys((*NETWORK_STAGES, "deploy"), level),
        "patternProperties": {"^x-": {}},
        "additionalProperties": False,
    }
    return [*_words(NETWORK_LEVELS), stages]


def _bootstrap_commands() -> list[Schema]:
    mapping: Schema = {
        "type": "object",
        "properties": {key: {"anyOf": [_TEXT, _NULL]} for key in ("cmd", "run", "command")},
        "patternProperties": {"^x-": {}},
        "additionalProperties": False,
        "minProperties": 1,
    }
    return [_TEXT, mapping, {"type": "array", "items": {"anyOf": [_TEXT, mapping]}}]


_SPECIAL: dict[str, Callable[[], list[Schema]]] = {
    "memory": _size,
    "disk": _size,
    "cpus": _cpus,
    "pids": lambda: _integers(1),
    "gpus": _gpus,
    "user": _user,
    "network": _network,
    "Action.kind": lambda: _words(ACTION_KINDS),
    "Bootstrap.cmds": _bootstrap_commands,
    "Bootstrap.timeout_seconds": lambda: _integers(1),
}


def _aliases(section: str, fields: Schema) -> Schema:
    if section == "Bootstrap":
        return {alias: fields[name] for alias, name in _BOOTSTRAP_ALIASES.items()}
    single: Schema = {"anyOf": [_TEXT, _NULL]}
    lists = [name for name in fields if name.endswith("cmds")]
    aliases: Schema = {
        name.removesuffix("s"): {"description": f"One command; {name} takes several.", **single}
        for name in lists
    }
    if section == "Auth":
        aliases["steps"] = {"description": "Looked at only without other commands.", **fields["cmds"]}
    return aliases


_BOOTSTRAP_ALIASES = {"steps": "cmds", "cwd": "workdir", "timeout": "timeout_seconds", "retry": "retries"}

_TOOLING: Schema = {
    "description": "Accepted without effect.",
    "deprecated": True,
    "type": ["object", "null"],
    "properties": {"ensure_tools": {}, "ensure_kind_cluster": {}, "kind_cluster_name": {}, "kind_config": {}},
    "patternProperties": {"^x-": {}},
    "additionalProperties": False,
}

_EXTRA_KEYS: dict[str, Schema] = {
    "pipeline": {"tooling": _TOOLING},
    "bootstrap": {
        "boot": {"description": "All fields, one level down; better at the top.", "deprecated": True}
    },
}
