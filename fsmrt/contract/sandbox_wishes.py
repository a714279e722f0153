"""The `sandbox` section: what commands need around them, and what no contract may have mounted."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from msgspec import UNSET, UnsetType
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from .fields import (
    choice,
    integer,
    is_text,
    note_coerced,
    note_outside,
    number_value,
    path_inside,
    stays_inside,
    string,
)
from .model import Mount, SandboxWishes
from .reading import Notes
from .sections import Fields, Rule, is_mapping, known_entries, list_of, read_fields
from .yaml_nodes import FLOAT, INT, found

NETWORK_LEVELS = ("open", "model", "none")

NETWORK_STAGES = (
    "actions",
    "bootstrap",
    "auth",
    "tests",
    "deploy_setup",
    "deploy_health",
    "deploy_teardown",
    "rollout",
    "evaluation",
    "benchmark",
    "outcome",
)
_DEPLOY = ("deploy_setup", "deploy_health", "deploy_teardown")

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)\s*([kmgt]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_MAX_SIZE = 2**62
_MAX_CPUS = 2**16
_MAX_ID = 2**32 - 2
_USER = re.compile(r"([0-9]{1,10}):([0-9]{1,10})", re.ASCII)

_ENGINE_SOCKETS = frozenset({"docker.sock", "podman.sock", "containerd.sock", "crio.sock", "buildkitd.sock"})
_SYSTEM_FOLDERS = ("/", "/home", "/root", "/var", "/var/lib")
"""Refused themselves, since they hold what is refused; data may well lie below them."""
_SYSTEM_TREES = (
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/run",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
)
_KERNEL_TREES = ("/dev", "/proc", "/sys")


def parse_size(text: str) -> int | None:
    """Bytes of a text such as `4g`, `512 MiB` or `1.5GB`; units are powers of 1024, as engines count."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return None
    unit = _UNITS[match[2].lower()]
    return int(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


def size(notes: Notes, node: Node, path: str) -> int | UnsetType:
    """A number of bytes, or a text with a unit."""
    if is_text(node):
        if not node.value.strip():
            return UNSET
        value = parse_size(node.value)
    else:
        number = number_value(node)
        value = int(number) if number is not None and number == number // 1 else None
    if value is None:
        message = f"{notes.label(path)} must be a size, found {found(node)}"
        notes.error(
            "not_a_size", node, path, message, "write a number of bytes, or a size such as 512m or 4 GiB"
        )
        return UNSET
    return value if _is_positive(notes, node, path, value, _MAX_SIZE) else UNSET


def _is_positive(notes: Notes, node: Node, path: str, value: float, most: int) -> bool:
    if 0 < value <= most:
        return True
    limit = f"at most {most}" if value > most else "greater than 0"
    notes.error("out_of_range", node, path, f"{notes.label(path)} must be {limit}, found {found(node)}")
    return False


def cpus(notes: Notes, node: Node, path: str) -> float | UnsetType:
    """A number of cores; fractions are allowed."""
    if is_text(node) and not node.value.strip():
        return UNSET
    value = number_value(node) if not is_text(node) else _decimal(node.value)
    if value is None:
        message = f"{notes.label(path)} must be a number, found {found(node)}"
        notes.error("not_a_number", node, path, message, "write a number of cores such as 2 or 1.5")
        return UNSET
    if is_text(node):
        note_coerced(notes, node, path, f"the number {value:g}", f"write {value:g}")
    return float(value) if _is_positive(notes, node, path, value, _MAX_CPUS) else UNSET


def _decimal(text: str) -> float | None:
    match = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*", text, re.ASCII)
    return float(match[1]) if match else None


def network(notes: Notes, node: Node, path: str) -> Any:
    """One level for all stages, or a mapping from stage to level in which `deploy` means its three stages."""
    if not isinstance(node, MappingNode):
        return _level(notes, node, path)
    if not is_mapping(notes, node, path):
        return UNSET
    given = known_entries(notes, node, path, _STAGE_LEVELS.rules)
    levels = read_fields(notes, given, path, _STAGE_LEVELS)
    if "deploy" in levels:
        levels = {**dict.fromkeys(_DEPLOY, levels.pop("deploy")), **levels}
    return levels


_level: Rule = choice(*NETWORK_LEVELS)
_STAGE_LEVELS = Fields(dict.fromkeys((*NETWORK_STAGES, "deploy"), _level))


def gpus(notes: Notes, node: Node, path: str) -> Any:
    """`all`, a number of devices (0 is none), or a list of device ids."""
    if isinstance(node, SequenceNode):
        return _gpu_list(notes, node, path)
    if is_text(node) and node.value.strip().lower() in ("all", ""):
        return "all" if node.value.strip() else UNSET
    if is_text(node) and not node.value.strip().isdecimal():
        message = f"{notes.label(path)} must be all, an integer or a list of ids; found {found(node)}"
        notes.error("not_in_choices", node, path, message, "write all, a number, or a list such as [0, 1]")
        return UNSET
    return _gpu_count(notes, node, path)


_gpu_count = integer(0, zero_unsets=True, maximum=1024)


def _gpu_id(notes: Notes, node: Node, path: str, index: int) -> str | UnsetType:
    if node.tag == INT:
        return str(node.value)
    text = string(notes, node, path)
    if text is UNSET and is_text(node):
        notes.error("not_a_string", node, path, "must be the id of a device, found an empty text")
    return text


_gpu_list = list_of(_gpu_id, "device ids")


def user(notes: Notes, node: Node, path: str) -> str | UnsetType:
    """`caller`, `image` or `UID:GID`."""
    text = _scalar_text(node)
    if text == "":
        return UNSET
    if text.lower() in ("caller", "image"):
        return text.lower()
    if not _are_ids(text):
        message = f"{notes.label(path)} must be one of: caller, image, UID:GID; found {found(node)}"
        notes.error("not_in_choices", node, path, message, 'write caller, image, or ids such as "1000:1000"')
        return UNSET
    if not is_text(node):
        note_coerced(notes, node, path, f'the text "{text}"', f'write "{text}"')
    return text


def _scalar_text(node: Node) -> str:
    """The text as written, since YAML reads 1000:50 as a number in base 60; never empty for other values."""
    if isinstance(node, ScalarNode) and (is_text(node) or node.tag in (INT, FLOAT)):
        return str(node.value).strip()
    return "?"


def _are_ids(text: str) -> bool:
    ids = _USER.fullmatch(text)
    return ids is not None and max(int(ids[1]), int(ids[2])) <= _MAX_ID


def mount(notes: Notes, node: Node, path: str, index: int) -> Mount | UnsetType:
    """One folder or file of this machine, and where the commands see it."""
    if not is_mapping(notes, node, path, null_allowed=False):
        return UNSET
    given = known_entries(notes, node, path, _MOUNT.rules)
    values = read_fields(notes, given, path, _MOUNT)
    for name in ("source", "target"):
        if name not in given:
            message = f"{notes.label(path)} must have a {name}"
            notes.error("not_a_string", node, path, message, f"add {name}: with a path")
    return Mount(**values) if {"source", "target"} <= values.keys() else UNSET


def _source(notes: Notes, node: Node, path: str) -> str | UnsetType:
    text = string(notes, node, path)
    if text is UNSET:
        return _needed(notes, node, path)
    if not text.startswith("/") and not stays_inside(text, None):
        note_outside(notes, node, path, text)
        return UNSET
    if source_is_refused(text):
        message = f"{notes.label(path)} cannot be an engine socket or a system folder, found {found(node)}"
        notes.error("mount_refused", node, path, message, "mount only the folder the commands need")
        return UNSET
    return text


def _target(notes: Notes, node: Node, path: str) -> str | UnsetType:
    text = string(notes, node, path)
    if text is UNSET:
        return _needed(notes, node, path)
    normal = _normal(text)
    if text.startswith("/") and normal != "/" and not _is_below(normal, _KERNEL_TREES):
        return text
    message = f"{notes.label(path)} must be an absolute path and no folder of the kernel, found {found(node)}"
    notes.error("mount_refused", node, path, message, "write where the commands should see it, such as /data")
    return UNSET


def _needed(notes: Notes, node: Node, path: str) -> UnsetType:
    if is_text(node) and not node.value.strip():
        notes.error("not_a_string", node, path, f"{notes.label(path)} must not be empty")
    return UNSET


def source_is_refused(text: str) -> bool:
    """Whether mounting this path would hand out the engine or the machine, whoever asks for it.

    Judged by the text; whoever mounts it resolves symbolic links and asks again.
    """
    if posixpath.basename(text.rstrip("/")) in _ENGINE_SOCKETS:
        return True
    if not text.startswith("/"):
        return False
    normal = _normal(text)
    return normal in _SYSTEM_FOLDERS or _is_below(normal, _SYSTEM_TREES)


def _normal(text: str) -> str:
    return "/" + posixpath.normpath(text).lstrip("/")


def _is_below(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


_MOUNT = Fields({"source": _source, "target": _target, "mode": choice("ro", "rw")})

_FIELDS = Fields(
    {
        "image": string,
        "build": path_inside(),
        "rootfs": string,
        "network": network,
        "memory": size,
        "cpus": cpus,
        "pids": integer(1),
        "disk": size,
        "gpus": gpus,
        "user": user,
        "mounts": list_of(mount, "mappings {source, target, mode}"),
    }
)


def sandbox(notes: Notes, node: Node, path: str) -> SandboxWishes | UnsetType:
    """The whole section."""
    if not is_mapping(notes, node, path):
        return UNSET
    given = known_entries(notes, node, path, _FIELDS.rules)
    values = read_fields(notes, given, path, _FIELDS)
    if "image" in values and "build" in values:
        message = "image and build exclude each other: a sandbox is made from one of them"
        notes.error("conflicting_keys", given["build"][0], f"{path}.build", message, "remove image or build")
    return SandboxWishes(**values)
