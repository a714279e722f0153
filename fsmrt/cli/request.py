"""A run as it was asked for, checked: what is wrong with it is told before anything exists."""

from __future__ import annotations

from ..errors import SpecError
from ..request import Request, prepare
from ..settings import Settings
from .target import repository_at
from .usage import UsageError


def prepared(target: str, settings: Settings) -> Request:
    """A run that can be performed. Raises `UsageError`, and `ContractError` for the repository's files."""
    root = repository_at(target).root
    try:
        return prepare(root, settings)
    except SpecError as error:
        lines = (f"{field}: {message}" for _, field, message in error.problems)
        raise UsageError("; ".join(lines)) from None
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise UsageError(str(error)) from None
