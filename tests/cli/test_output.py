"""What is printed cannot fail the program, and cannot steer the reader's terminal."""

from __future__ import annotations

import io
import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmrt.cli import __main__ as door
from fsmrt.cli.output import Output, json_line, printable


@given(st.text())
def test_printable_text_has_no_controls(text: str) -> None:
    assert not [letter for letter in printable(text) if unicodedata.category(letter) == "Cc"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ✓", "plain ✓"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x07", "link"),
        ("10%\r20%\r", "20%"),
        ("a\tb", "a   b"),
        ("\u202eright to left", "right to left"),
        ("bell\x07 and \x9b31m", "bell and 31m"),
    ],
)
def test_what_is_left_of_foreign_text(text: str, shown: str) -> None:
    assert printable(text) == shown


class Gone(io.StringIO):
    """A stream whose reader has left."""

    def flush(self) -> None:
        raise BrokenPipeError

    def fileno(self) -> int:
        return self.kept

    kept = -1


def test_a_reader_who_left_is_noticed_once(tmp_path: Any) -> None:
    stream = Gone()
    with (tmp_path / "pipe").open("w") as pipe:
        stream.kept = pipe.fileno()
        out = Output(stream)
        out.line("one")
        out.line("two")
    assert out.gone
    assert stream.getvalue() == "one\n"


@given(st.recursive(st.none() | st.text() | st.integers(-(2**53), 2**53), st.lists))
def test_a_json_line_is_one_line(value: Any) -> None:
    line = json_line(value)
    assert line.count("\n") == 1
    assert json.loads(line) == value


def test_a_lone_surrogate_survives() -> None:
    assert json.loads(json_line({"name": "\udcff"})) == {"name": "\udcff"}


def test_a_schema_is_printed(user: Any) -> None:
    for name in ("pipeline", "bootstrap", "actions"):
        assert json.loads(user.types("schema", name).stdout)["$schema"].startswith("https://json-schema.org")
    assert user.types("schema", "nothing").returncode == 2


@pytest.mark.parametrize("debug", [True, False])
def test_a_bug_of_ours_is_one_line_unless_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], debug: bool
) -> None:
    def broken(_args: object) -> int:
        raise ExceptionGroup("wrapped", [TypeError("two\nlines")])

    monkeypatch.setattr(door, "ready_streams", lambda: None)
    monkeypatch.setattr(door, "_subcommand", lambda _name: broken)
    monkeypatch.setenv("FSMRT_DEBUG", "1" if debug else "")
    assert door.main(["ps"]) == 70
    told = capsys.readouterr().err
    assert "this is a bug of fsmrt: TypeError: two lines" in told
    assert ("Traceback" in told) == debug


def test_interrupting_a_command_that_is_no_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(door, "ready_streams", lambda: None)
    monkeypatch.setattr(door, "_subcommand", lambda _name: interrupted)
    assert door.main(["ps"]) == 130
    assert capsys.readouterr().err == "fsmrt: interrupted\n"
