"""What the operator wants, from every place it can be said: flag > variable > user's file > built-in.

Pure: environment and file come in as values. Each choice keeps where it was made, for `plan` to show.
"""

from __future__ import annotations

import argparse
import re
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, get_args

import msgspec

from ..settings import LAYERS, ObserveLevel, Settings
from .parser import REDACTIONS, SANDBOXES, UNATTENDED
from .quantities import seconds, size
from .usage import UsageError

VARIABLES: Final[Mapping[str, str]] = {
    "sandbox": "FSMRT_SANDBOX",
    "artifacts": "FSMRT_ARTIFACTS",
    "state_dir": "FSMRT_STATE_DIR",
}
"""Options that a variable can set."""

BUILT_IN: Final[Mapping[str, Any]] = {
    "sandbox": "auto",
    "artifacts": None,
    "state_dir": None,
    "timeout": None,
    "output_bytes": None,
    "redaction": "full",
    "unattended": "strict",
}
"""Options with a default that can be changed for good, and what they are otherwise."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class Chosen(msgspec.Struct, frozen=True):
    """A value, and who said it: a flag, a variable, a file, or `default`."""

    value: Any
    source: str


class UserFile(msgspec.Struct, frozen=True):
    """The user's configuration file, parsed but not yet believed."""

    path: str
    values: Mapping[str, Any]


def choose(flags: Mapping[str, Any], environ: Mapping[str, str], file: UserFile | None) -> dict[str, Chosen]:
    """Each option of `BUILT_IN` from the strongest place that says something. Raises `UsageError`."""
    from_file = {} if file is None else _believed(file)
    return {name: _strongest(name, flags, environ, from_file) for name in BUILT_IN}


def _strongest(
    name: str, flags: Mapping[str, Any], environ: Mapping[str, str], from_file: Mapping[str, Chosen]
) -> Chosen:
    if flags.get(name) is not None:
        return Chosen(flags[name], f"--{name.replace('_', '-')}")
    variable = VARIABLES.get(name, "")
    if environ.get(variable):
        return Chosen(_accepted(name, environ[variable], variable), variable)
    return from_file.get(name) or Chosen(BUILT_IN[name], "default")


def _believed(file: UserFile) -> dict[str, Chosen]:
    unknown = [name for name in file.values if name not in BUILT_IN]
    if unknown:
        raise UsageError(f"{file.path}: unknown key {unknown[0]!r}; known are {', '.join(BUILT_IN)}")
    return {
        name: Chosen(_accepted(name, value, f"{file.path}: {name}"), file.path)
        for name, value in file.values.items()
    }


def _accepted(name: str, value: Any, where: str) -> Any:
    try:
        return _READERS[name](value)
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise UsageError(f"{where}: {error}") from None


def _one_of(known: Iterable[str]) -> Callable[[Any], str]:
    choices = tuple(known)

    def read(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"{value!r} is none of {', '.join(choices)}")
        return str(value)

    return read


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is no path")
    return value


def _quantity(read: Callable[[str], Any]) -> Callable[[Any], Any]:
    def from_any(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"{value!r} is neither a number nor a text such as 5m or 10MiB")
        return read(str(value))

    return from_any


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "sandbox": _one_of(SANDBOXES),
    "artifacts": _text,
    "state_dir": _text,
    "timeout": _quantity(seconds),
    "output_bytes": _quantity(size),
    "redaction": _one_of(REDACTIONS),
    "unattended": _one_of(UNATTENDED),
}


def settings(
    args: Namespace,
    chosen: Mapping[str, Chosen],
    environ: Mapping[str, str],
    env_files: Mapping[str, str],
) -> Settings:
    """What the run is asked. `env_files` maps each file given to its text. Raises `UsageError`."""
    from_files: dict[str, str] = {}
    for path, text in env_files.items():
        from_files.update(file_variables(path, text, environ))
    secrets = {name: _secret(name, from_files, environ) for name in args.secret}
    env = {**from_files, **dict(_variable(text, environ) for text in args.env)}
    return Settings(
        pipeline=args.pipeline,
        allow_system=args.allow_system,
        env={name: value for name, value in env.items() if name not in secrets},
        secrets=secrets,
        mode=args.mode,
        llm=_llm(args.llm),
        stages=args.stages,
        test_cmds=None if args.test_cmd is None else tuple(args.test_cmd),
        observe=dict(_observed(text) for text in args.observe),
        environ=environ,
        **{name: one.value for name, one in chosen.items()},
    )


def file_variables(path: str, text: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of an `--env-file`: values are taken literally, a name alone takes the caller's value."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            name, value = _variable(line.strip(), environ)
        except UsageError as error:
            raise UsageError(f"{path}:{number}: {error}") from None
        found[name] = value
    return found


def _variable(text: str, environ: Mapping[str, str]) -> tuple[str, str]:
    name, given, value = text.partition("=")
    _check_name(name)
    if given:
        return name, value
    if name not in environ:
        raise UsageError(f"--env {name}: {name} is not set here; set it, or write {name}=VALUE")
    return name, environ[name]


def _secret(name: str, from_files: Mapping[str, str], environ: Mapping[str, str]) -> str:
    if "=" in name:
        raise UsageError(
            "--secret takes a name only: a value on the command line is there for everyone to read. "
            f"Set {name.partition('=')[0]} in your environment"
        )
    _check_name(name)
    value = from_files.get(name, environ.get(name))
    if value is None:
        raise UsageError(f"--secret {name}: {name} is not set here")
    return value


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a variable")


def _observed(text: str) -> tuple[str, ObserveLevel]:
    layer, _, level = text.partition("=")
    if layer not in LAYERS:
        raise UsageError(f"--observe {text}: no layer {layer!r}; known are {', '.join(LAYERS)}")
    levels: tuple[ObserveLevel, ...] = get_args(ObserveLevel)
    for known in levels:
        if level == known:
            return layer, known
    raise UsageError(f"--observe {text}: write {layer}={'/'.join(levels)}")


def _llm(text: str | None) -> str | None:
    if text is not None and not text.strip():
        raise UsageError("--llm is empty; name a model, or a folder")
    return text
