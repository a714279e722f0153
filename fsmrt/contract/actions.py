"""Reading `.aider_fsm/actions.yml`.

An action that cannot be done (an unknown kind, no command, no path) fails when its turn comes, after the
actions before it were done. It is therefore part of the value, and a `strict` problem here.
"""

from __future__ import annotations

import posixpath
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from yaml.nodes import Node

from .fields import is_text, note_outside, read_text, retries, seconds, stays_inside, string, version
from .model import Action, Actions
from .reading import Notes, Reading, read_document
from .sections import Entries, Fields, is_mapping, known_entries, list_of, read_fields

COMMAND_KINDS = ("run_cmd", "install_tool", "start_service")
ACTION_KINDS = (*COMMAND_KINDS, "write_file")

_PROTECTED = ("pipeline.yml", "PLAN.md")
_EVIDENCE = ".aider_fsm/artifacts"


def read_actions(
    data: bytes, file: str = ".aider_fsm/actions.yml", *, repo_root: str | None = None
) -> Reading[Actions]:
    """Everything `actions.yml` says, or everything wrong with it; never raises for what is in `data`."""
    return read_document(data, Notes(file, "actions", repo_root), _actions)


class _Placed(msgspec.Struct, frozen=True):
    """An action and where it was read: an alias can put the same node at two places."""

    action: Action
    node: Node
    path: str


def _actions(notes: Notes, root: Node) -> Actions:
    if not is_mapping(notes, root, "$", null_allowed=False):
        return Actions()
    given = known_entries(notes, root, "$", _TOP.rules)
    placed: tuple[_Placed, ...] = read_fields(notes, given, "$", _TOP).get("actions", ())
    _check_ids(notes, placed)
    return Actions(actions=tuple(each.action for each in placed))


def _check_ids(notes: Notes, placed: tuple[_Placed, ...]) -> None:
    first: dict[str, _Placed] = {}
    for each in placed:
        earlier = first.setdefault(each.action.id, each)
        if earlier is not each:
            message = f'the id "{each.action.id}" is already that of {notes.label(earlier.path)}'
            hint = "give every action an id of its own, or none any"
            notes.error("duplicate_id", each.node, f"{each.path}.id", message, hint)


def _action(notes: Notes, node: Node, path: str, index: int) -> _Placed | UnsetType:
    if not is_mapping(notes, node, path, null_allowed=False):
        return UNSET
    given = known_entries(notes, node, path, _ACTION.rules)
    values = {"id": f"action-{index + 1:03d}", **read_fields(notes, given, path, _ACTION)}
    action = Action(**values)
    _check_doable(notes, node, path, action, given)
    return _Placed(action, node, path)


def _check_doable(notes: Notes, node: Node, path: str, action: Action, given: Entries) -> None:
    if action.kind not in ACTION_KINDS:
        message = f"unsupported_action_kind: {action.kind}"
        kinds = f"use one of {', '.join(ACTION_KINDS)}"
        notes.strict("unsupported_action_kind", given["kind"][1], f"{path}.kind", message, kinds)
    elif action.kind in COMMAND_KINDS:
        if action.cmd is None:
            notes.strict("missing_cmd", node, path, f"missing_cmd: {action.kind} needs a command", "add cmd")
    elif action.path is None:
        notes.strict("missing_path", node, path, "missing_path: write_file needs a path", "add path")
    else:
        _check_written_path(notes, given["path"][1], f"{path}.path", action.path)


def _check_written_path(notes: Notes, node: Node, path: str, text: str) -> None:
    if not stays_inside(text, notes.repo_root):
        note_outside(notes, node, path, text, level="strict")
    elif _is_protected(text):
        message = f"path_is_protected: {text} is not for actions to write"
        notes.strict("path_is_protected", node, path, message, "write another file")


def _is_protected(text: str) -> bool:
    normal = posixpath.normpath(text)
    return normal in _PROTECTED or normal == _EVIDENCE or normal.startswith(_EVIDENCE + "/")


def _command(notes: Notes, node: Node, path: str) -> str | UnsetType:
    """A command as written; blank is none."""
    text = read_text(notes, node, path)
    return text if text is not UNSET and text.strip() else UNSET


def _content(notes: Notes, node: Node, path: str) -> str | UnsetType:
    """The text of a file: anything that is a text, NUL and blanks included."""
    return node.value if is_text(node) else read_text(notes, node, path)


def _kind(notes: Notes, node: Node, path: str) -> Any:
    text = string(notes, node, path)
    return text if text is UNSET else text.lower()


_ACTION = Fields(
    {
        "id": string,
        "kind": _kind,
        "cmd": _command,
        "timeout_seconds": seconds,
        "retries": retries,
        "path": string,
        "content": _content,
        "risk_level": string,
        "rationale": string,
    }
)

_TOP = Fields({"version": version, "actions": list_of(_action, "actions")})
