from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from yaml.nodes import MappingNode

from fsmrt.contract.pipeline import read_pipeline
from fsmrt.contract.yaml_nodes import (
    MAX_BYTES,
    MAX_DEPTH,
    Unreadable,
    _may_be_deep,
    compose,
    found,
    python_value,
)

YAML_LETTERS = "ab01 \n\t-?:,[]{}&*!|>'\"%@`#<=~.${}\r\u2028\x85é\ufeff"


def refusal(data: bytes) -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        compose(data)
    return caught.value


@pytest.mark.parametrize(
    ("data", "code", "place", "part"),
    [
        (b"a: b\nc: \xff", "file_not_utf8", (2, 4), "0xff"),
        ("é: é\n  ".encode() + b"\xe9", "file_not_utf8", (2, 3), "0xe9"),
        ("a: b".encode("utf-16"), "file_not_utf8", (1, 1), "UTF-8"),
        (b"x" * (MAX_BYTES + 1), "file_too_large", (1, 1), "1,048,576"),
        (b"a: [\n", "yaml_syntax", (2, 1), "flow"),
        (b"a: b: c", "yaml_syntax", (1, 5), "mapping values are not allowed"),
        (b"a:\n\t- b", "yaml_syntax", (2, 1), "cannot start any token"),
        (b"a: 'b\\0'\nc: \x00", "yaml_syntax", (2, 4), "U+0000"),
        (b"a: 1\n---\nb: 1", "yaml_syntax", (2, 1), "single document"),
        (b"a: *b", "yaml_syntax", (1, 4), "undefined alias"),
        (b"a: !secret b", "yaml_syntax", (1, 4), "the tag !secret"),
        (b"a: !!python/object:os.system {}", "yaml_syntax", (1, 4), "!!python/object:os.system"),
        (b"a: !!str [b]", "yaml_syntax", (1, 4), "!!str"),
        (b"a: [1" + b":10" * 2000 + b"]", "yaml_syntax", (1, 5), "more than 4,300 digits"),
        (b"!x a", "yaml_syntax", (1, 1), "!x"),
        (b"? [a]\n: b", "yaml_syntax", (1, 3), "key"),
        (b"a: &a\n  b: *a", "yaml_syntax", (1, 4), "contains it"),
        (b"a: &a [*a]", "yaml_syntax", (1, 4), "contains it"),
    ],
)
def test_an_unreadable_file_says_where_and_why(
    data: bytes, code: str, place: tuple[int, int], part: str
) -> None:
    reason = refusal(data)
    assert (reason.code, reason.line, reason.column) == (code, *place)
    assert part in reason.message


@pytest.mark.parametrize("data", [b"", b" \n\t\n", b"# nothing but this\n", b"\xef\xbb\xbf"])
def test_nothing_is_no_document(data: bytes) -> None:
    assert compose(data) is None


def test_a_byte_order_mark_does_not_move_columns() -> None:
    root = compose(b"\xef\xbb\xbfa: b")
    assert isinstance(root, MappingNode)
    assert root.value[0][1].start_mark.column == 3


@pytest.mark.parametrize("form", ["flow", "block", "compact", "unindented", "mapping"])
@pytest.mark.parametrize("extra", [0, 1])
def test_the_depth_limit_is_exact(form: str, extra: int) -> None:
    levels = MAX_DEPTH + extra
    text = {
        "flow": "[" * levels + "]" * levels,
        "block": "".join(f"{' ' * level}a:\n" for level in range(levels)) + " " * levels + "b",
        "compact": "- " * levels + "x",
        "unindented": "".join(f"{' ' * level}a:\n{' ' * level}-\n" for level in range(levels // 2))
        + (" " * (levels // 2) + ("- x" if extra else "x")),
        "mapping": "{a: " * levels + "}" * levels,
    }[form]
    if extra:
        assert "levels deep" in refusal(text.encode()).message
    else:
        assert compose(text.encode()) is not None


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "- " * 100_000, "{" * 100_000, "? " * 100_000, "{a: " * 100_000]
)
def test_nesting_that_would_exhaust_the_stack_is_refused(text: str) -> None:
    assert refusal(text.encode()).code == "yaml_syntax"


def test_nesting_through_aliases_counts() -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, MAX_DEPTH))]
    assert "levels deep" in refusal("\n".join(lines).encode()).message
    assert compose("\n".join(lines[:-2]).encode()) is not None


def test_a_bomb_is_measured_without_expanding_it() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 60)]
    reason = refusal("\n".join(lines).encode())
    assert reason.code == "file_too_large"
    assert reason.line == 5  # 10 ** 5 nodes are reached in the fifth line


def test_as_many_nodes_as_allowed() -> None:
    assert compose(b"[" + b"1," * 99_999 + b"]") is not None
    assert refusal(b"[" + b"1," * 100_000 + b"]").code == "file_too_large"


def depth_of(text: str) -> int:
    deepest = depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            deepest = max(deepest, depth)
    except yaml.YAMLError:
        pass
    return deepest


@given(
    st.lists(
        st.sampled_from([*"ab \n-?:,[]{}&*!|'\"#$", "- ", "? ", "[[", "{", "\n  ", "${", "&a "]), max_size=40
    ),
    st.integers(1, 60),
)
def test_the_quick_look_at_depth_is_never_wrong_about_a_no(pieces: list[str], times: int) -> None:
    text = "".join(pieces) * times
    if not _may_be_deep(text.encode()):
        assert depth_of(text) <= MAX_DEPTH


def attempt(data: bytes) -> None:
    try:
        compose(data)
    except Unreadable as caught:
        reason = caught
    else:
        return
    assert min(reason.line, reason.column) >= 1
    assert reason.message


@given(st.binary(max_size=300))
def test_any_bytes_compose_or_are_refused(data: bytes) -> None:
    attempt(data)


@given(st.text(alphabet=YAML_LETTERS, max_size=120))
def test_any_text_composes_or_is_refused(text: str) -> None:
    attempt(text.encode())


@given(st.text(alphabet=YAML_LETTERS, max_size=60))
def test_values_are_those_of_the_safe_loader(text: str) -> None:
    try:
        expected = yaml.load(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, AttributeError, LookupError, TypeError):
        return
    root = compose(text.encode())
    assert repr(None if root is None else python_value(root)) == repr(expected)


@pytest.mark.parametrize(
    "text",
    ["2024-13-45", "!!int x", "!!bool x", "!!timestamp x", "!!float ''", "!!int ''", "0b_"],
)
def test_a_text_that_does_not_fit_its_tag(text: str) -> None:
    root = compose(text.encode())
    assert root is not None
    with pytest.raises(ValueError, match=r"."):
        python_value(root)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("true", "the boolean true"),
        ("~", "null"),
        ("3", "the number 3"),
        ("1.5", "the number 1.5"),
        ("2024-01-01", "the date 2024-01-01"),
        ("'3'", 'the text "3"'),
        ("[]", "an empty list"),
        ("{a: b}", "a mapping"),
        ("x" * 100, f'the text "{"x" * 37}..."'),
    ],
)
def test_what_was_found(text: str, sentence: str) -> None:
    root = compose(text.encode())
    assert root is not None
    assert found(root) == sentence


PURE = """
import sys
sys.modules["yaml._yaml"] = None
import yaml
assert not hasattr(yaml, "CSafeLoader")
from fsmrt.contract.pipeline import read_pipeline
for name in sys.argv[1:]:
    reading = read_pipeline(open(name, "rb").read(), name)
    print(reading.value, *reading.problems)
for data in (b"[" * 5000, b"- " * 5000, b'tests: {cmd: "\\\\ud800"}', b"a: \\0", b"a: " + b"[" * 99 + b"]" * 99):
    print(read_pipeline(data).problems[0].code)
"""


def test_without_libyaml_the_same_is_read() -> None:
    """The fallback is chosen at import, so another interpreter has to show it."""
    names = sorted(str(name) for name in (Path(__file__).parent / "corpus").glob("*.yml"))
    done = subprocess.run([sys.executable, "-c", PURE, *names], capture_output=True, text=True, check=True)
    expected = []
    for name in names:
        reading = read_pipeline(Path(name).read_bytes(), name)
        expected.append(" ".join(map(str, (reading.value, *reading.problems))))
    lines = done.stdout.splitlines()
    assert lines[: len(names)] == expected
    assert lines[len(names) :] == ["yaml_syntax", "yaml_syntax", "yaml_syntax", "yaml_syntax", "unknown_key"]
