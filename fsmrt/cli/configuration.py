"""The files and variables behind the options: read here, believed in options.py."""

from __future__ import annotations

import os
import tomllib
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ..settings import Settings
from .options import Chosen, UserFile, choose, settings
from .usage import UsageError

_MAX_ENV_FILE = 1 << 20


class Configuration(msgspec.Struct, frozen=True):
    """What is asked, and where each default came from."""

    settings: Settings
    chosen: Mapping[str, Chosen]


def configured(args: Namespace) -> Configuration:
    """Everything the operator said, anywhere. Raises `UsageError`."""
    environ = dict(os.environ)
    chosen = choose(vars(args), environ, read_user_file(environ))
    env_files = {path: _env_file(path) for path in args.env_file}
    return Configuration(settings(args, chosen, environ, env_files), chosen)


def defaults() -> dict[str, Chosen]:
    """The options as they are without any flag. Raises `UsageError`."""
    environ = dict(os.environ)
    return choose({}, environ, read_user_file(environ))


def state_environ() -> dict[str, str]:
    """The variables from which the state folder follows, the user's file considered."""
    chosen = defaults()["state_dir"].value
    return {**os.environ, **({"FSMRT_STATE_DIR": chosen} if chosen else {})}


def user_file_path(environ: Mapping[str, str]) -> Path:
    """Where the user's file would be."""
    shared = environ.get("XDG_CONFIG_HOME", "")
    base = Path(shared) if os.path.isabs(shared) else Path("~/.config").expanduser()
    return base / "fsmrt" / "config.toml"


def read_user_file(environ: Mapping[str, str]) -> UserFile | None:
    """The user's file, None if there is none."""
    path = user_file_path(environ)
    try:
        return UserFile(str(path), tomllib.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _env_file(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_MAX_ENV_FILE + 1)
    except UnicodeDecodeError as error:
        raise UsageError(f"--env-file {path}: not UTF-8: {error.reason}") from None
    except OSError as error:
        raise UsageError(f"--env-file {path}: {error.strerror}") from None
    if len(text) > _MAX_ENV_FILE:
        raise UsageError(f"--env-file {path}: larger than {_MAX_ENV_FILE} bytes")
    return text
