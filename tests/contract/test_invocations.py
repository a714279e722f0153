"""Which programs a text starts, where, and what is known of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmrt.contract.invocations import Call, Source, source_of, survey
from fsmrt.contract.shell import Simple, Word, parse


def names(text: str) -> list[str]:
    return [call.name for call in survey(text).calls]


def call(text: str) -> Call:
    (pipeline,) = parse(text)
    (part,) = pipeline.parts
    assert isinstance(part, Simple)
    return Call(part.words[0].text.rpartition("/")[2], part.words)


@pytest.mark.parametrize(
    ("text", "programs"),
    [
        ("/usr/bin/env -u B A=1 nice -n 5 x -y", ["env", "nice", "x"]),
        ("timeout --signal=KILL -k 3 10m x", ["timeout", "x"]),
        ("nice -5 nohup setsid x", ["nice", "nohup", "setsid", "x"]),
        ("sudo -u me -E -- A=1 x y", ["sudo", "x"]),
        ("xargs -0 -I {} -P4 x {}", ["xargs", "x"]),
        ("exec -a name x", ["exec", "x"]),
        ("command -p x; command -v y", ["command", "x", "command"]),
        ("env", ["env"]),
        ("find . -name x -exec a b \\; -print", ["find", "a"]),
        ("bash -lc 'a; b'", ["bash", "a", "b"]),
        ("sh -e -c 'a' b", ["sh", "a"]),
        ("sh x -c 'a'", ["sh"]),
        ("eval a '; b'", ["eval", "a", "b"]),
        ("su me -c 'a'", ["su", "a"]),
        ("flock lock -c 'a'", ["flock", "a"]),
        ("env -S 'a b'", ["env", "a"]),
        ("trap 'a' EXIT", ["trap", "a"]),
        ("bash -s <<E\na\nE", ["bash", "a"]),
        ("bash x <<E\na\nE", ["bash"]),
        ("cat <<E\na\nE", ["cat"]),
        (
            "'$AIDER_FSM_PYTHON' x; \"$AIDER_FSM_PYTHON\" x; ${PYTHON:-python3} x",
            ["$AIDER_FSM_PYTHON", "python", "python"],
        ),
        ("$SHELL -c 'a'", ["sh", "a"]),
        ("git commit -m 'a; b'", ["git"]),
    ],
)
def test_calls_behind_wrappers_and_in_texts(text: str, programs: list[str]) -> None:
    assert names(text) == programs


@pytest.mark.parametrize(
    ("text", "folders"),
    [
        ("x; cd a; x; cd b/../c; x", ["/r", "/r/a", "/r/a/c"]),
        ("cd /; x; cd; x; cd /y; x; cd -; x", ["/", None, "/y", None]),
        ("(cd a; x); x", ["/r/a", "/r"]),
        ("{ cd a; x; }; x", ["/r/a", "/r/a"]),
        ("cd a | x; x", ["/r", "/r"]),
        ("cd a & x", ["/r"]),
        ("$(cd a; x); x", ["/r/a", "/r"]),
        ("sh -c 'cd a; x'; x", ["/r/a", "/r"]),
        ("eval 'cd a'; x", ["/r/a"]),
        ("cd $Y; x; cd /$Y; x", [None, None]),
        ('D=a/b; cd $D; x; cd "$PWD/c"; x', ["/r/a/b", "/r/a/b/c"]),
        ("D=$(x); cd $D; x", ["/r", None]),
        ("pushd -P -- a; x", ["/r/a"]),
        ("f() { cd a; x; }; x", ["/r/a", "/r"]),
    ],
)
def test_the_folder_is_followed(text: str, folders: list[str | None]) -> None:
    assert [found.cwd for found in survey(text, "/r").calls if found.name == "x"] == folders


@pytest.mark.parametrize(
    "folder",
    [
        '"$(dirname "$0")"',
        "$(dirname -- $0)",
        "${0%/*}",
        '$(dirname "${BASH_SOURCE[0]}")',
        '"$(cd "$(dirname "$0")" && pwd)"',
        '"$(cd -- "$(dirname "$0")" > /dev/null 2>&1 && pwd -P)"',
    ],
)
def test_a_script_can_name_its_own_folder(folder: str) -> None:
    found = survey(f"HERE={folder}; . $HERE/lib.sh", "/r", {"0": "/r/s/x.sh"})
    assert found.calls[-1].words[1].text == "/r/s/lib.sh"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("bash -euo pipefail x y", Source("shell", "file", Word("x"))),
        ("bash +x --rcfile r -O extglob x", Source("shell", "file", Word("x"))),
        ("sh -c 'a b' c", Source("shell", "text", Word("a b"))),
        ("sh -s x", Source("shell", "stdin")),
        ("sh -", Source("shell", "stdin")),
        ("sh", Source("shell", "stdin")),
        (". ./x", Source("shell", "file", Word("./x"))),
        ("python3.12 -u -W ignore x -c y", Source("python", "file", Word("x"))),
        ("python -uc 'a' b", Source("python", "text", Word("a"))),
        ("python -m pytest x", Source("python", "module", Word("pytest"))),
        ("python -", Source("python", "stdin")),
        ("pythonista x", None),
        ("make x", None),
    ],
)
def test_what_an_interpreter_executes(text: str, source: Source | None) -> None:
    assert source_of(call(text)) == source


def test_texts_that_cannot_be_read_are_kept() -> None:
    assert survey("eval 'a (b' c").unread == ["a (b c"]
    assert survey("'").unread == ["'"]


@given(
    st.lists(
        st.sampled_from(["eval ", "sh -c ", "(", ")", "'", '"', "$(", "a", " ", ";", "cd ", "x="]),
        max_size=30,
    )
)
def test_a_survey_never_fails(pieces: list[str]) -> None:
    found = survey("true; " + "".join(pieces))
    assert found.unread or found.calls[0].name == "true"
    assert all(call.words for call in found.calls)
