"""Flag beats variable beats file beats built-in, and nothing that is wrong is passed over."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmrt.cli.options import BUILT_IN, Chosen, UserFile, choose, file_variables, settings
from fsmrt.cli.parser import build_parser
from fsmrt.cli.usage import UsageError

FILE = "/home/me/.config/fsmrt/config.toml"


def typed(*words: str) -> Namespace:
    return build_parser().parse_args(["run", *words])


def asked(*words: str, **environ: str) -> Any:
    args = typed(*words)
    return settings(args, choose(vars(args), environ, None), environ, {})


@pytest.mark.parametrize(
    ("flag", "variable", "file", "chosen"),
    [
        ("host", "docker", "bwrap", Chosen("host", "--sandbox")),
        (None, "docker", "bwrap", Chosen("docker", "FSMRT_SANDBOX")),
        (None, None, "bwrap", Chosen("bwrap", FILE)),
        (None, "", None, Chosen("auto", "default")),
    ],
)
def test_the_strongest_place_wins(
    flag: str | None, variable: str | None, file: str | None, chosen: Chosen
) -> None:
    environ = {} if variable is None else {"FSMRT_SANDBOX": variable}
    user_file = UserFile(FILE, {} if file is None else {"sandbox": file})
    assert choose({"sandbox": flag}, environ, user_file)["sandbox"] == chosen


def test_a_file_may_say_quantities_as_people_do() -> None:
    chosen = choose({}, {}, UserFile(FILE, {"timeout": "5m", "output_bytes": "1MiB", "redaction": "full"}))
    assert (chosen["timeout"].value, chosen["output_bytes"].value) == (300, 1 << 20)
    assert choose({}, {}, UserFile(FILE, {"timeout": 90}))["timeout"] == Chosen(90, FILE)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sandbx": "host"}, "unknown key 'sandbx'"),
        ({"sandbox": "chroot"}, "sandbox: 'chroot' is none of"),
        ({"timeout": True}, "timeout: True is neither"),
        ({"timeout": -1}, "no duration"),
        ({"artifacts": 3}, "artifacts: 3 is no path"),
        ({"unattended": []}, "is none of strict, guided"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=f"^{FILE}: .*{said}"):
        choose({}, {}, UserFile(FILE, values))


@given(
    st.dictionaries(
        st.sampled_from([*BUILT_IN, "other"]), st.none() | st.booleans() | st.integers() | st.text()
    )
)
def test_any_file_is_believed_or_refused(values: dict[str, Any]) -> None:
    try:
        said = {*choose({}, {}, UserFile(FILE, values))}
    except UsageError as error:
        said = {*BUILT_IN} if FILE in str(error) else {"a complaint without a file"}
    assert said == {*BUILT_IN}


def test_variables_given_taken_and_read() -> None:
    args = typed("--env", "A=1=2", "--env", "B", "--env-file", "vars", "--secret", "S")
    environ = {"B": "mine", "S": "hidden", "UNSAID": "x"}
    text = "# remark\n\nA=overruled\nC = literally \nS=from the file\nB\n"
    made = settings(args, choose(vars(args), environ, None), environ, {"vars": text.replace("C =", "C=")})
    assert made.env == {"A": "1=2", "B": "mine", "C": " literally"}
    assert made.secrets == {"S": "from the file"}
    assert made.environ == environ


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--env", "NOT_SET"], "NOT_SET is not set here"),
        (["--env", "1A=x"], "no name of a variable"),
        (["--env", "=x"], "no name of a variable"),
        (["--secret", "NOT_SET"], "NOT_SET is not set here"),
        (["--secret", "TOKEN=abc"], "for everyone to read"),
        (["--observe", "weather=try"], "no layer 'weather'"),
        (["--observe", "process"], "process=off/try/require"),
        (["--llm", " "], "--llm is empty"),
    ],
)
def test_wrong_words(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asked(*words)


def test_a_wrong_line_of_a_file_is_named() -> None:
    with pytest.raises(UsageError, match=r"^vars:2: .*NOT_SET is not set"):
        file_variables("vars", "A=1\nNOT_SET\n", {})


def test_everything_arrives() -> None:
    made = asked(
        "--pipeline", "p.yml", "--sandbox", "host", "--allow-system", "--mode", "full", "--llm", "m",
        "--stages", "tests,evaluation", "--test-cmd", "a", "--test-cmd", "b", "--timeout", "2m",
        "--artifacts", "out", "--output-bytes", "1k", "--observe", "process=off", "--redaction", "shapes_only",
        "--unattended", "guided", FSMRT_STATE_DIR="/state",
    )  # fmt: skip
    assert (made.pipeline, made.sandbox, made.allow_system, made.mode) == ("p.yml", "host", True, "full")
    assert (made.llm, made.stages, made.test_cmds) == ("m", ("tests", "evaluation"), ("a", "b"))
    assert (made.timeout, made.artifacts, made.output_bytes) == (120, "out", 1024)
    assert (made.observe, made.redaction) == ({"process": "off"}, "shapes_only")
    assert (made.unattended, made.state_dir) == ("guided", "/state")
