"""Shell text read into simple commands, so that a rule can tell a program from a word in a message.

This is a reader, not a shell: nothing is expanded. A word keeps its expansions as they were written, says
whether it has any, and carries the scripts inside its `$(..)`, backticks and `<(..)`. Quotes, comments and line
continuations are gone. What POSIX shells and bash share is read by the grammar below, bash's own additions as
far as they can hide or quote a command.

    script    = pipeline, followed by ; & && || or a newline, and so on
    pipeline  = part | part | part
    part      = simple command, group (subshell, braces, if, for, while, case ..) or function definition

`/bin/sh` and bash disagree about some texts; where that matters the reading with more commands in it is
chosen, because a rule that sees a command too many errs on the explained side.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, Literal

import msgspec

MAX_CHARACTERS: Final = 2_000_000  # as much as the script audit reads; a command is far smaller
MAX_DEPTH: Final = 32  # eight interpreter frames a level: stays far away from the recursion limit


class Untokenisable(ValueError):
    """The text is not shell as we know it, or nests too deeply. The message says where and why."""


class Word(msgspec.Struct, frozen=True):
    """One word after quote removal; `expands` if a shell would still replace some of its text."""

    text: str
    expands: bool = False
    scripts: tuple[Script, ...] = ()


class Redirection(msgspec.Struct, frozen=True):
    operator: str
    """Such as `>`, `2>&` or `<<`."""
    target: Word
    body: list[Word]
    """The text of a here-document, as one word; empty for everything else."""

    @property
    def feeds_stdin(self) -> bool:
        return self.operator.lstrip("0").startswith("<")


class Simple(msgspec.Struct, frozen=True):
    words: tuple[Word, ...]
    assignments: tuple[tuple[str, Word], ...] = ()
    redirections: tuple[Redirection, ...] = ()


class Group(msgspec.Struct, frozen=True):
    """A compound command. Its branches and conditions are one list: rules do not evaluate conditions."""

    kind: Literal["subshell", "braces", "branches", "test"]
    body: Script
    subject: tuple[Word, ...] = ()
    """Words outside the lists: what `for` walks over, `case` patterns, operands of `[[`."""
    redirections: tuple[Redirection, ...] = ()


class Function(msgspec.Struct, frozen=True):
    name: str
    body: Part


Part = Simple | Group | Function


class Pipeline(msgspec.Struct, frozen=True):
    parts: tuple[Part, ...]
    background: bool = False
    conditional: bool = False
    """Behind `&&` or `||`."""


Script = tuple[Pipeline, ...]


def parse(text: str, depth: int = 0) -> Script:
    """The pipelines of a shell text, in order. Raises `Untokenisable`, and nothing else, for any text.

    `depth` is the nesting which the caller has used already, where one text was found inside another.
    """
    if len(text) > MAX_CHARACTERS:
        raise Untokenisable(f"longer than {MAX_CHARACTERS} characters")
    reader = _Reader(text, depth)
    reader._check_depth()
    return reader.script(_NO_STOPS)


def words_of(part: Part) -> Iterator[Word]:
    """Every word directly on a part, wherever it stands; not those of nested parts."""
    if isinstance(part, Simple):
        yield from part.words
        for _, value in part.assignments:
            yield value
    elif isinstance(part, Group):
        yield from part.subject
    if not isinstance(part, Function):
        for redirection in part.redirections:
            yield redirection.target
            yield from redirection.body


_NO_STOPS: Final[frozenset[str]] = frozenset()
_BLANKS: Final = re.compile(r"(?:[ \t]|\\\n)*(?:#[^\n]*)?")
_PLAIN: Final = re.compile(r"[^ \t\n;&|()<>'\"\\$`]+")
_QUOTED_PLAIN: Final = re.compile(r'[^"\\$`]+')
_GLOB: Final = re.compile(r"[*?\[]")
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_]\w*)(?:\[[^\]\s]*\])?\+?=", re.ASCII)
_REDIRECTION: Final = re.compile(
    r"(?:[0-9]+|\{[A-Za-z_]\w*\})?(?:<<<|<<-|<<|<>|<&|>>|>\||>&|<(?!\()|>(?!\())|&>>?", re.ASCII
)
_HEREDOC: Final = re.compile(r"[0-9]*<<-?")
_NO_PARAMETERS: Final = re.compile(r"\([ \t]*\)")
_SEPARATOR: Final = re.compile(r"&&|\|\||&|;(?!;|&)|\n")
_PREFIX: Final = re.compile(r"(?:!(?=[ \t(])|coproc(?=[ \t])|time(?:[ \t]+-p)?(?=[ \t]+[^-]))[ \t]*")
_RESERVED: Final = re.compile(
    r"(?:if|then|elif|else|fi|while|until|for|select|do|done|case|esac|function|\{|\}|\[\[)(?![^ \t\n;&|()<>])"
    r"|\(|\)|;[;&]"
)
_CLAUSE_END: Final = re.compile(r";;&|;;|;&")
_CLAUSE_STOPS: Final = frozenset({";;", ";&", "esac"})
_CLOSERS: Final = frozenset({"then", "elif", "else", "fi", "do", "done", "esac", "}", ")", ";;", ";&"})
_PARAMETER: Final = re.compile(r"\$(?:[A-Za-z_]\w*|[0-9@*#?$!-])", re.ASCII)
_SINGLE_QUOTED: Final = re.compile(r"'([^']*)'")
_ANSI_QUOTED: Final = re.compile(r"\$'((?:[^'\\]|\\.)*)'", re.DOTALL)
_BACKTICKS: Final = re.compile(r"`((?:[^`\\]|\\.)*)`", re.DOTALL)
_ESCAPED_IN_BACKTICKS: Final = re.compile(r"\\([`$\\])")
_ESCAPED_IN_QUOTED_BACKTICKS: Final = re.compile(r"\\([`$\\\"])")
_ANSI_ESCAPE: Final = re.compile(r"\\(x[0-9A-Fa-f]{1,2}|u[0-9A-Fa-f]{1,4}|[0-7]{1,3}|.)", re.DOTALL)
_ANSI_LETTERS: Final = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "a": "\a",
    "b": "\b",
    "e": "\x1b",
    "f": "\f",
    "v": "\v",
}


class _Pieces:
    """A word while it is being read."""

    __slots__ = ("expands", "scripts", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.scripts: list[Script] = []
        self.expands = False

    def add_expansion(self, text: str) -> None:
        self.texts.append(text)
        self.expands = True

    def word(self) -> Word:
        return Word("".join(self.texts), self.expands, tuple(self.scripts))


class _Heredoc(msgspec.Struct, frozen=True):
    """A here-document whose operator was read; its lines come after the next newline."""

    delimiter: str
    literal: bool
    strips_tabs: bool
    body: list[Word]


class _Reader:
    """Recursive descent over one text. Every method leaves `at` behind what it read."""

    def __init__(self, text: str, depth: int) -> None:
        self.text, self.at, self.depth = text, 0, depth
        self.heredocs: list[_Heredoc] = []
        self.doubting = False  # reading `((` as commands, ready to read it as arithmetic instead

    # -- lists and pipelines

    def script(self, stops: frozenset[str]) -> Script:
        """Pipelines up to one of `stops` (not consumed), or to the end of the text if there are none."""
        found: list[Pipeline] = []
        conditional = separated = True
        while not self._at_stop(stops):
            if not separated:
                raise self._trouble("unexpected text")
            if not found:
                conditional = False
            parts = self._pipeline()
            separator = self._separator()
            found.append(Pipeline(parts, separator == "&", conditional))
            separated, conditional = separator != "", separator in {"&&", "||"}
        return tuple(found)

    def _at_stop(self, stops: frozenset[str]) -> bool:
        self._lines()
        if self.at >= len(self.text):
            if stops:
                raise self._trouble(f"ends before {' or '.join(sorted(stops))}")
            return True
        reserved = self._reserved()
        if reserved in _CLOSERS and reserved not in stops:
            raise self._trouble(f"unexpected {reserved}")
        return reserved in stops

    def _pipeline(self) -> tuple[Part, ...]:
        parts = [self._part()]
        while self._takes("|") and not self.text.startswith("||", self.at):
            self.at += 2 if self.text.startswith("|&", self.at) else 1
            self._lines()
            parts.append(self._part())
        return tuple(parts)

    def _separator(self) -> str:
        self._blanks()
        match = _SEPARATOR.match(self.text, self.at)
        if match is None:
            return ""
        if match[0] != "\n":  # a newline is consumed by `_lines`, which knows about here-documents
            self.at = match.end()
        return match[0]

    def _part(self) -> Part:
        self._blanks()
        while prefix := _PREFIX.match(self.text, self.at):
            self.at = prefix.end()
        reserved = self._reserved()
        if reserved == "":
            return self._simple()
        opened = _OPENERS.get(reserved)
        if opened is None:
            raise self._trouble(f"unexpected {reserved}")
        self._enter()
        part = opened(self)
        self.depth -= 1
        return part

    def _reserved(self) -> str:
        match = _RESERVED.match(self.text, self.at)
        return match[0] if match else ""

    # -- compound commands

    def _subshell(self) -> Group:
        if self.text.startswith("((", self.at):
            return self._doubled()
        return self._enclosed("subshell", ")")

    def _doubled(self) -> Group:
        """`((..))`: commands for one shell, arithmetic for the other, and only one reading fits the text."""
        if self.doubting:  # one doubt at a time, or the work would double with every level
            return self._enclosed("subshell", ")")
        start, depth, heredocs = self.at, self.depth, list(self.heredocs)
        self.doubting = True
        try:
            return self._enclosed("subshell", ")")
        except Untokenisable:
            self.at, self.depth, self.heredocs = start, depth, heredocs
        finally:
            self.doubting = False
        return self._redirected(Group("test", (), (self._arithmetic(start),)))

    def _braces(self) -> Group:
        return self._enclosed("braces", "}")

    def _enclosed(self, kind: Literal["subshell", "braces"], closer: str) -> Group:
        self.at += 1
        body = self.script(frozenset({closer}))
        self.at += 1
        return self._redirected(Group(kind, body))

    def _branches(self) -> Group:
        """`if`, `while` and `until`: lists between reserved words, up to the one that closes."""
        closer = "fi" if self._reserved() == "if" else "done"
        inner = frozenset({"then", "elif", "else", "fi"} if closer == "fi" else {"do", "done"})
        body: list[Pipeline] = []
        word = ""
        while word != closer:
            self.at += len(self._reserved())
            body += self.script(inner)
            word = self._reserved()
        self.at += len(closer)
        return self._redirected(Group("branches", tuple(body)))

    def _loop(self) -> Group:
        """`for` and `select`."""
        self.at += len(self._reserved())
        self._blanks()
        subject: list[Word] = []
        if self.text.startswith("((", self.at):
            subject.append(self._arithmetic(self.at))
        else:
            subject += self._loop_words()
        self._lines_and_semicolons()
        closer = {"do": "done", "{": "}"}.get(self._reserved())
        if closer is None:
            raise self._trouble("a loop without do")
        self.at += len(self._reserved())
        body = self.script(frozenset({closer}))
        self.at += len(closer)
        return self._redirected(Group("branches", body, tuple(subject)))

    def _loop_words(self) -> list[Word]:
        """The variable, and what it walks over: `x in a b`; in `for x do`, nothing."""
        found = [self._required_word()]
        self._blanks()
        while self._reserved() != "do" or len(found) > 1:
            word = self._word()
            if word is None:
                break
            found.append(word)
            self._blanks()
        return found

    def _case(self) -> Group:
        self.at += len("case")
        self._blanks()
        subject = [self._required_word()]
        self._lines()
        if self._required_word().text != "in":
            raise self._trouble("a case without in")
        body: list[Pipeline] = []
        while self._case_continues():
            subject += self._patterns()
            body += self.script(_CLAUSE_STOPS)
            if ended := _CLAUSE_END.match(self.text, self.at):
                self.at = ended.end()
        self.at += len("esac")
        return self._redirected(Group("branches", tuple(body), tuple(subject)))

    def _case_continues(self) -> bool:
        self._lines()
        return self._reserved() != "esac"

    def _patterns(self) -> list[Word]:
        if self.text.startswith("(", self.at):
            self.at += 1
        found = []
        while True:
            self._blanks()
            found.append(self._required_word())
            if self._takes("|"):
                self.at += 1
            elif self._takes(")"):
                self.at += 1
                return found
            else:
                raise self._trouble("a case pattern without )")

    def _test(self) -> Group:
        """`[[ .. ]]`: its operators are no separators, so every character that starts no word is skipped."""
        self.at += 2
        subject: list[Word] = []
        while True:
            self._lines()
            if self.at >= len(self.text):
                raise self._trouble("[[ without ]]")
            word = self._word()
            if word is None:
                self.at += 1
            elif word.text == "]]":
                return self._redirected(Group("test", (), tuple(subject)))
            else:
                subject.append(word)

    def _keyword_function(self) -> Function:
        self.at += len("function")
        self._blanks()
        name = self._required_word().text
        self._blanks()
        if match := _NO_PARAMETERS.match(self.text, self.at):
            self.at = match.end()
        self._lines()
        return Function(name, self._part())

    def _redirected(self, group: Group) -> Group:
        redirections = []
        while redirection := self._redirection():
            redirections.append(redirection)
        if not redirections:
            return group
        return Group(group.kind, group.body, group.subject, tuple(redirections))

    # -- simple commands

    def _simple(self) -> Simple | Function:
        words: list[Word] = []
        assignments: list[tuple[str, Word]] = []
        redirections: list[Redirection] = []
        while True:
            if redirection := self._redirection():
                redirections.append(redirection)
            elif not words and (name := _ASSIGNMENT.match(self.text, self.at)):
                assignments.append((name[1], self._value(name.end())))
            elif (word := self._word()) is not None:
                words.append(word)
            elif len(words) == 1 and self.text.startswith("(", self.at):
                return self._function(words[0].text)
            elif words or assignments or redirections:
                return Simple(tuple(words), tuple(assignments), tuple(redirections))
            else:
                raise self._trouble("a command is missing")

    def _value(self, start: int) -> Word:
        self.at = start
        if self.text.startswith("(", start):
            pieces = _Pieces()
            self._array(pieces)
            return pieces.word()
        return self._word() or Word("")

    def _function(self, name: str) -> Function:
        self.at += 1
        if not self._takes(")"):
            raise self._trouble("unexpected (")
        self.at += 1
        self._lines()
        self._enter()
        body = self._part()
        self.depth -= 1
        return Function(name, body)

    def _redirection(self) -> Redirection | None:
        self._blanks()
        match = _REDIRECTION.match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        self._blanks()
        start = self.at
        target = self._required_word()
        body: list[Word] = []
        if _HEREDOC.fullmatch(match[0]):
            written = self.text[start : self.at]
            literal = any(quote in written for quote in "'\"\\")
            self.heredocs.append(_Heredoc(target.text, literal, match[0].endswith("-"), body))
        return Redirection(match[0], target, body)

    # -- white space, here-documents

    def _blanks(self) -> None:
        match = _BLANKS.match(self.text, self.at)
        if match is not None:
            self.at = match.end()

    def _lines(self) -> None:
        """Skips blanks, comments and newlines, and the here-documents that begin behind a newline."""
        self._blanks()
        while self.text.startswith("\n", self.at):
            self.at += 1
            for heredoc in self.heredocs:
                heredoc.body.append(self._heredoc(heredoc))
            self.heredocs.clear()
            self._blanks()

    def _lines_and_semicolons(self) -> None:
        self._lines()
        if self.text.startswith(";", self.at):
            self.at += 1
            self._lines()

    def _heredoc(self, heredoc: _Heredoc) -> Word:
        lines: list[str] = []
        while self.at < len(self.text):
            end = self.text.find("\n", self.at)
            end = len(self.text) if end < 0 else end
            line = self.text[self.at : end]
            self.at = min(end + 1, len(self.text))
            line = line.lstrip("\t") if heredoc.strips_tabs else line
            if line == heredoc.delimiter:
                break
            lines.append(line)
        text = "".join(f"{line}\n" for line in lines)
        return Word(text) if heredoc.literal else self._expanded(text)

    def _takes(self, character: str) -> bool:
        self._blanks()
        return self.text.startswith(character, self.at)

    # -- words

    def _required_word(self) -> Word:
        word = self._word()
        if word is None:
            raise self._trouble("a word is missing")
        return word

    def _word(self) -> Word | None:
        """The word that starts here; None where an operator, a newline or the end stands."""
        start, pieces = self.at, _Pieces()
        while self.at < len(self.text):
            if plain := _PLAIN.match(self.text, self.at):
                self._take_plain(plain[0], pieces)
                self.at = plain.end()
                continue
            piece = _PIECES.get(self.text[self.at])
            if piece is None or not piece(self, pieces):
                break
        return pieces.word() if self.at > start else None

    def _take_plain(self, text: str, pieces: _Pieces) -> None:
        if (text[0] == "~" and not pieces.texts) or _GLOB.search(text):
            pieces.expands = True
        pieces.texts.append(text)

    def _single_quoted(self, pieces: _Pieces) -> bool:
        match = _SINGLE_QUOTED.match(self.text, self.at)
        if match is None:
            raise self._trouble("unclosed '")
        pieces.texts.append(match[1])
        self.at = match.end()
        return True

    def _double_quoted(self, pieces: _Pieces) -> bool:
        self.at += 1
        pieces.texts.append("")  # so that a tilde behind the quotes does not count as leading
        self._until_quote(pieces)
        if not self.text.startswith('"', self.at):
            raise self._trouble('unclosed "')
        self.at += 1
        return True

    def _until_quote(self, pieces: _Pieces) -> None:
        """Text in which only `$`, backticks and some backslashes mean something; up to a `"` or the end."""
        while self.at < len(self.text):
            if plain := _QUOTED_PLAIN.match(self.text, self.at):
                pieces.texts.append(plain[0])
                self.at = plain.end()
            elif self.text[self.at] == '"':
                return
            elif self.text[self.at] == "\\":
                self._escape_in_quotes(pieces)
            elif self.text[self.at] == "$":
                self._dollar(pieces)
            else:
                self._backticks(pieces, _ESCAPED_IN_QUOTED_BACKTICKS)

    def _escape_in_quotes(self, pieces: _Pieces) -> None:
        escaped = self.text[self.at + 1 : self.at + 2]
        if escaped != "\n":
            pieces.texts.append(escaped if escaped and escaped in '$`"\\' else f"\\{escaped}")
        self.at += 2

    def _escape(self, pieces: _Pieces) -> bool:
        escaped = self.text[self.at + 1 : self.at + 2]
        pieces.texts.append("" if escaped == "\n" else escaped or "\\")
        self.at = min(self.at + 2, len(self.text))
        return True

    def _expanded(self, text: str) -> Word:
        """`text` as the shell treats the body of a here-document: as if within quotes, quotes being plain."""
        inner, pieces = _Reader(text, self.depth + 1), _Pieces()
        inner._check_depth()
        inner._until_quote(pieces)
        while inner.at < len(text):
            pieces.texts.append('"')
            inner.at += 1
            inner._until_quote(pieces)
        return pieces.word()

    # -- expansions

    def _dollar_in_word(self, pieces: _Pieces) -> bool:
        if self.text.startswith("$'", self.at):
            self._ansi_quoted(pieces)
        elif self.text.startswith('$"', self.at):
            self.at += 1
            self._double_quoted(pieces)
        else:
            self._dollar(pieces)
        return True

    def _ansi_quoted(self, pieces: _Pieces) -> None:
        match = _ANSI_QUOTED.match(self.text, self.at)
        if match is None:
            raise self._trouble("unclosed $'")
        pieces.texts.append(_ANSI_ESCAPE.sub(_ansi_character, match[1]))
        self.at = match.end()

    def _dollar(self, pieces: _Pieces) -> None:
        start = self.at
        if self.text.startswith("$((", start) and self._arithmetic_closes(start + 1):
            pieces.scripts.extend(self._arithmetic(start + 1).scripts)
        elif self.text.startswith("$(", start):
            self.at += 1
            self._substitution(pieces)
        elif self.text.startswith("${", start):
            self._parameter(pieces)
        elif match := _PARAMETER.match(self.text, start):
            self.at = match.end()
        else:
            self.at += 1
            pieces.texts.append("$")
            return
        pieces.add_expansion(self.text[start : self.at])

    def _substitution(self, pieces: _Pieces) -> None:
        """`(script)`: `at` stands on the parenthesis."""
        self._enter()
        self.at += 1
        pieces.scripts.append(self.script(frozenset({")"})))
        self.at += 1
        self.depth -= 1

    def _backticks(self, pieces: _Pieces, escaped: re.Pattern[str] = _ESCAPED_IN_BACKTICKS) -> bool:
        match = _BACKTICKS.match(self.text, self.at)
        if match is None:
            raise self._trouble("unclosed `")
        inner = escaped.sub(r"\1", match[1])
        pieces.scripts.append(parse(inner, self.depth + 1))
        pieces.add_expansion(match[0])
        self.at = match.end()
        return True

    def _parameter(self, pieces: _Pieces) -> None:
        """`${..}`: only the scripts inside it are of interest."""
        self._enter()
        self.at += 2
        inside = _Pieces()
        while not self.text.startswith("}", self.at):
            if self.at >= len(self.text):
                raise self._trouble("unclosed ${")
            piece = _PIECES_IN_PARAMETER.get(self.text[self.at])
            if piece is None:
                self.at += 1
            else:
                piece(self, inside)
        self.at += 1
        self.depth -= 1
        pieces.scripts.extend(inside.scripts)

    def _process_substitution(self, pieces: _Pieces) -> bool:
        if not self.text.startswith("(", self.at + 1):
            return False
        start = self.at
        self.at += 1
        self._substitution(pieces)
        pieces.add_expansion(self.text[start : self.at])
        return True

    def _parenthesis_in_word(self, pieces: _Pieces) -> bool:
        """`NAME=(..)` of `declare` and friends, and extended globs; any other parenthesis ends the word."""
        before = pieces.texts[-1][-1:] if pieces.texts else ""
        if before == "=":
            self._array(pieces)
        elif before and before in "?*+@!":
            end = self._balanced(self.at)
            pieces.add_expansion(self.text[self.at : end])
            self.at = end
        else:
            return False
        return True

    def _array(self, pieces: _Pieces) -> None:
        start = self.at
        self._enter()
        self.at += 1
        while not self._closes_array():
            pieces.scripts.extend(self._required_word().scripts)
        self.at += 1
        self.depth -= 1
        pieces.add_expansion(self.text[start : self.at])

    def _closes_array(self) -> bool:
        self._lines()
        return self.text.startswith(")", self.at)

    def _arithmetic_closes(self, start: int) -> bool:
        """Whether the `((` at `start` is closed by one `))`, and so is arithmetic and no subshell."""
        inner = self._balanced(start + 1)
        return self.text.startswith(")", inner)

    def _arithmetic(self, start: int) -> Word:
        """Reads `((..))` from `start`; the word carries the scripts which the arithmetic runs."""
        end = self.at = self._balanced(start)
        if not self.text.endswith("))", start, end):
            raise self._trouble("unclosed ((")
        return self._expanded(self.text[start + 2 : end - 2])

    def _balanced(self, start: int) -> int:
        """The index behind the parenthesis which closes the one at `start`."""
        level = 0
        for match in _BRACKETS.finditer(self.text, start):
            level += {"(": 1, ")": -1}.get(match[0], 0)
            if level == 0:
                return match.end()
        raise self._trouble("unclosed (")

    # -- bounds

    def _enter(self) -> None:
        self.depth += 1
        self._check_depth()

    def _check_depth(self) -> None:
        if self.depth > MAX_DEPTH:
            raise self._trouble(f"nested more than {MAX_DEPTH} levels deep")

    def _trouble(self, what: str) -> Untokenisable:
        return Untokenisable(f"{what} (line {self.text.count(chr(10), 0, self.at) + 1})")


_BRACKETS: Final = re.compile(r"\\.|'[^']*'|\"(?:[^\"\\]|\\.)*\"|[()]", re.DOTALL)
_OPENERS: Final[dict[str, Callable[[_Reader], Part]]] = {
    "(": _Reader._subshell,
    "{": _Reader._braces,
    "if": _Reader._branches,
    "while": _Reader._branches,
    "until": _Reader._branches,
    "for": _Reader._loop,
    "select": _Reader._loop,
    "case": _Reader._case,
    "[[": _Reader._test,
    "function": _Reader._keyword_function,
}
_PIECES: Final[dict[str, Callable[[_Reader, _Pieces], bool]]] = {
    "'": _Reader._single_quoted,
    '"': _Reader._double_quoted,
    "\\": _Reader._escape,
    "$": _Reader._dollar_in_word,
    "`": _Reader._backticks,
    "<": _Reader._process_substitution,
    ">": _Reader._process_substitution,
    "(": _Reader._parenthesis_in_word,
}
_PIECES_IN_PARAMETER: Final = {mark: _PIECES[mark] for mark in '"\\$`'}


def _ansi_character(match: re.Match[str]) -> str:
    escape = match[1]
    if escape[0] in "xu" and len(escape) > 1:
        return chr(int(escape[1:], 16))
    if escape[0] in "01234567":
        return chr(int(escape, 8) & 0xFF)
    return _ANSI_LETTERS.get(escape, escape)
