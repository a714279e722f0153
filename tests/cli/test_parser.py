"""The parser promises what the program keeps, and costs next to nothing."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import get_args

import pytest

from fsmrt import settings
from fsmrt.cli import parser
from fsmrt.contract import schema

HEAVY = ("anyio", "trio", "yaml", "msgspec", "rich", "asyncio", "json", "subprocess", "dataclasses")


def subparsers() -> dict[str, argparse.ArgumentParser]:
    built = parser.build_parser()
    (action,) = (one for one in built._actions if isinstance(one, argparse._SubParsersAction))
    return dict(action.choices)


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"], []])
def test_help_imports_nothing_of_weight(words: list[str]) -> None:
    code = (
        "import sys\nfrom fsmrt.cli.__main__ import main\n"
        f"try: main({words!r})\nexcept SystemExit: pass\n"
        f"sys.exit(','.join(set({HEAVY!r}) & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_choices_are_those_of_the_settings() -> None:
    assert set(parser.SANDBOXES) == set(get_args(settings.SandboxChoice))
    assert set(parser.MODES) == set(get_args(settings.EvalMode))
    assert set(parser.REDACTIONS) == set(get_args(settings.RedactionMode))
    assert set(parser.UNATTENDED) == set(get_args(settings.Unattended))
    assert all(schema.json_schema(name) for name in parser.CONTRACT_FILES)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", subparsers())
def test_every_subcommand_says_what_it_does_and_has_its_file(name: str) -> None:
    sub = subparsers()[name]
    assert sub.description
    assert all(action.help for action in sub._actions)
    __import__(f"fsmrt.cli.{name}", fromlist=["main"]).main  # noqa: B018 -- that it is there
    assert "usage: fsmrt" in sub.format_help()


def test_no_word_at_all_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parser.build_parser().parse_args([])
    assert left.value.code == 2
    assert "COMMAND" in capsys.readouterr().err
