"""Shell text becomes simple commands, or `Untokenisable`; never anything else."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmrt.contract.shell import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    Function,
    Group,
    Part,
    Script,
    Simple,
    Untokenisable,
    parse,
    words_of,
)


def commands(script: Script) -> list[list[str]]:
    """The words of every simple command, those in substitutions first."""
    return [words for pipeline in script for part in pipeline.parts for words in _of_part(part)]


def _of_part(part: Part) -> list[list[str]]:
    if isinstance(part, Function):
        return _of_part(part.body)
    found = [words for word in words_of(part) for script in word.scripts for words in commands(script)]
    if isinstance(part, Group):
        return found + commands(part.body)
    return [*found, [word.text for word in part.words]] if part.words else found


def answer(text: str) -> Script | str:
    try:
        return parse(text)
    except Untokenisable as refused:
        return str(refused)


def is_answer(found: Script | str) -> bool:
    return "(line " in found if isinstance(found, str) else all(pipeline.parts for pipeline in found)


def only(text: str) -> Simple:
    (pipeline,) = parse(text)
    (part,) = pipeline.parts
    assert isinstance(part, Simple)
    return part


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b  c", ["a", "b", "c"]),
        ("a 'b c' \"d e\"", ["a", "b c", "d e"]),
        ("a'b'\"c\"d", ["abcd"]),
        ("a '' \"\"", ["a", "", ""]),
        (r"a\ b \'c", ["a b", "'c"]),
        ("a\\\nb c \\\n d", ["ab", "c", "d"]),
        ('"a\\"b\\$c\\d"', ['a"b$c\\d']),
        (r"$'a\nb\x41\101\'c' d", ["a\nbAA'c", "d"]),
        ("echo a#b # c", ["echo", "a#b"]),
        ("echo $# ${#x} $$", ["echo", "$#", "${#x}", "$$"]),
        ('echo "${x:-"y z"}" ${a%"}"}', ["echo", '${x:-"y z"}', '${a%"}"}']),
        ("ls !(a|b) @(c|d)", ["ls", "!(a|b)", "@(c|d)"]),
        ("declare -a x=(1 'b c' # d\n 2)", ["declare", "-a", "x=(1 'b c' # d\n 2)"]),
        ("echo if then fi { } [[", ["echo", "if", "then", "fi", "{", "}", "[["]),
        ("a=1 b", ["b"]),
        ("a =1", ["a", "=1"]),
        ("echo 5>x 2>&1 >>y </z &>w 6 < v", ["echo", "6"]),
        ("echo $((1 + (2 * 3)))", ["echo", "$((1 + (2 * 3)))"]),
        ("echo \\", ["echo", "\\"]),
        ("a\u00a0b c", ["a\u00a0b", "c"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert [word.text for word in only(text).words] == words


@pytest.mark.parametrize("text", ["$x", '"$x"', "${x}", "`x`", "$(x)", "~", "~/x", "*", "a?", "[ab]", "<(x)"])
def test_a_word_that_a_shell_would_change_says_so(text: str) -> None:
    assert only(f"echo {text}").words[1].expands


@pytest.mark.parametrize("text", ["'$x'", r"\$x", '"*"', "'~'", "a~", '"~"', "'`x`'", "$", "a$"])
def test_a_word_that_stays_as_it_is_says_so(text: str) -> None:
    assert not only(f"echo {text}").words[1].expands


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a; b && c || d & e\nf", [["a"], ["b"], ["c"], ["d"], ["e"], ["f"]]),
        ("a | b |& c", [["a"], ["b"], ["c"]]),
        ("a &&\n\n b |\n c", [["a"], ["b"], ["c"]]),
        ("(a; b) > x; { c; d; } 2>y", [["a"], ["b"], ["c"], ["d"]]),
        ("if a; then b; elif c; then d; else e; fi", [["a"], ["b"], ["c"], ["d"], ["e"]]),
        ("while a; do b; done < f; until c\ndo d\ndone", [["a"], ["b"], ["c"], ["d"]]),
        ("for x in 1 $(a); do b; done; for y\ndo c; done", [["a"], ["b"], ["c"]]),
        ("for ((i=0; i<3; i++)); do a; done", [["a"]]),
        ("case $x in a|b) c;; (d) e;& *) f;;& esac; g", [["c"], ["e"], ["f"], ["g"]]),
        ("for x do a; done; for x in; do b; done; for do in do do; do c; done", [["a"], ["b"], ["c"]]),
        ("case x in esac", []),
        ("case x in a) b; esac", [["b"]]),
        ("[[ a < b && ( c =~ (d|e) ) ]] && f", [["f"]]),
        ("((i++)); (( (1) + 2 )) && a", [["i++"], ["a"]]),
        ("((a b); (c))", [["a", "b"], ["c"]]),
        ("f() { a; }; g () ( b ); function h { c; }; function i() { d; }", [["a"], ["b"], ["c"], ["d"]]),
        ("! a; time b; time -p c; coproc d; ! (e)", [["a"], ["b"], ["c"], ["d"], ["e"]]),
        ('a $(b `c` "$(d)") <(e) >(f)', [["c"], ["d"], ["b", "`c`", "$(d)"], ["e"], ["f"], None]),
        ("echo `a \\`b\\``", [["b"], ["a", "`b`"], None]),
        ('echo `a "\\""` "`b \\"c\\"`"', [["a", '"'], ["b", "c"], None]),
        ("echo $(( $(a) + 1 )) ${x:-$(b)} ${y:-`c`}", [["a"], ["b"], ["c"], None]),
        ("x=$(a) y=(1 $(b))", [["a"], ["b"]]),
        ('cat <<E | b\n$(a) "q" \'it\nE\nc', [["a"], ["cat"], ["b"], ["c"]]),
        ("cat <<'E' <<-F\n$(a)\nE\n\t$(b)\n\tF\nc", [["b"], ["cat"], ["c"]]),
        ("cat <<E\nnever closed $(a)", [["a"], ["cat"]]),
        ("echo $(cat <<E\nx ) y\nE\n)", [["cat"], None]),
        ("# only a comment", []),
        ("a # b\nc", [["a"], ["c"]]),
        ("", []),
        ("\n\n", []),
    ],
)
def test_commands(text: str, found: list[list[str] | None]) -> None:
    expected = [words for words in found if words is not None]
    assert [words for words in commands(parse(text)) if words in expected] == expected
    assert len(commands(parse(text))) == len(found)


def test_pipelines_keep_their_parts_and_how_they_are_joined() -> None:
    first, second, third = parse("a | b & c && d")
    assert [len(p.parts) for p in (first, second, third)] == [2, 1, 1]
    assert [p.background for p in (first, second, third)] == [True, False, False]
    assert [p.conditional for p in (first, second, third)] == [False, False, True]


def test_redirections_and_here_documents_are_kept_apart_from_words() -> None:
    simple = only("cat <<E > out 2>&1\nbody\nE\n")
    assert [r.operator for r in simple.redirections] == ["<<", ">", "2>&"]
    assert [body.text for body in simple.redirections[0].body] == ["body\n"]
    assert [r.feeds_stdin for r in simple.redirections] == [True, False, False]
    assert [name for name, _ in only("a=1 b+=2 c[1]=3 d").assignments] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "text",
    [
        "'a",
        '"a',
        "`a",
        "$(a",
        "${a",
        "$'a",
        "(a",
        "{ a;",
        "a )",
        "fi",
        "a; done",
        "if a; then b",
        "case x in a b) c;; esac",
        "case x y",
        "for x in a; b",
        "echo (a)",
        "a ;; b",
        "| a",
        "&& a",
        "a | ",
        "a >",
        "[[ a",
        "((a",
        "x=(a",
        "f( a",
        "}",
    ],
)
def test_what_is_no_shell_is_untokenisable(text: str) -> None:
    with pytest.raises(Untokenisable, match=r"\(line 1\)"):
        parse(text)


def test_the_message_says_where() -> None:
    with pytest.raises(Untokenisable, match=r"unexpected fi \(line 3\)"):
        parse("a\nb\nfi\n")


@pytest.mark.parametrize(
    "nest",
    [
        "(",
        "$(",
        '"$(',
        "${a:-",
        "((",
        "$((",
        "{ ",
        "if ",
        "f() ",
        "x=(",
        "<(",
        "[[ $(",
        "case x in x) ",
        '"${x:-"',
    ],
)
def test_deep_nesting_is_refused_without_recursing(nest: str) -> None:
    with pytest.raises(Untokenisable):
        parse(f"echo {nest * 5000}" if nest[0] in '$`"<' else nest * 5000)


def test_nesting_is_read_to_its_bound() -> None:
    depth = MAX_DEPTH - 2
    assert commands(parse("( " * depth + "a" + " )" * depth)) == [["a"]]


def test_a_text_beyond_the_bound_is_refused() -> None:
    with pytest.raises(Untokenisable, match="longer"):
        parse(" " * (MAX_CHARACTERS + 1))


@pytest.mark.parametrize(
    "piece", ["a b c; ", "'", "$(( ", "((a) ", "((a) b) ", "# x\n", "`", "<<E ", "x=1 ", "[[ "]
)
def test_a_long_text_gets_an_answer_too(piece: str) -> None:
    """Were work to grow with the square of the length, this would take minutes."""
    assert is_answer(answer(piece * 50_000))


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    assert is_answer(answer(text))


MARKS = st.sampled_from(
    [
        *"'\"\\`$(){};&|<>#!~*= \n\t",
        "((",
        "))",
        "$((",
        "<<E",
        "\nE\n",
        "if ",
        "then ",
        "fi",
        "case ",
        "in ",
        "esac",
        "[[ ",
    ]
)


@given(st.lists(st.one_of(MARKS, st.sampled_from(["a", "f()", "x=", "do ", "done", "for "])), max_size=60))
def test_any_mixture_of_shell_marks_is_read_or_refused(pieces: list[str]) -> None:
    assert is_answer(answer("".join(pieces)))


@given(st.lists(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])), min_size=1))
def test_quoted_words_come_back_as_they_were(words: list[str]) -> None:
    assert [word.text for word in only("run " + shlex.join(words)).words[1:]] == words
