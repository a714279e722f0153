"""The command rules: advice that catches accidents before they happen, and says which rule it was.

They are no wall (the sandbox is): whoever wants to get past them can. So they must above all not be wrong
about honest commands, which is why they look at programs and operands and never at the text of a message.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal

import msgspec

from .invocations import Call, Survey, chain, names, place, program, read_options, source_of, survey
from .model import Mode
from .shell import Function, Group, Part, Pipeline, Script, Simple, Word, words_of

INTERACTIVE_REFUSED: Final = "likely_interactive_command_disallowed_in_strict_mode"


class Ground(msgspec.Struct, frozen=True):
    """What the rules must know about the run."""

    repo_root: str


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One built-in rule. `call` looks at the calls of `programs`, `whole` at everything in a text."""

    name: str
    modes: tuple[Mode, ...]
    meaning: str
    programs: tuple[str, ...] = ()
    call: Callable[[Call, Ground], bool] | None = None
    whole: Callable[[Survey, Ground], bool] | None = None
    unreadable: str | None = None
    """A regex for texts that are not shell as we know it."""


# -- rm, chmod and chown on what must stay

_ROOTS: Final = names("/ /home /root /etc /usr /var /bin /sbin /lib /lib64 /boot /dev /proc /sys")
_HOME: Final = re.compile(r"(?:~[\w.-]*|\$HOME|\$\{HOME\b[^}]*\})/*")
_EVERYTHING_IN: Final = re.compile(r"(?:^|/)[.?]*\*[*?]*/*$")


def _is_root(word: Word, call: Call, ground: Ground) -> bool:
    text = word.text
    if not text:
        return False
    if word.expands and (everything := _EVERYTHING_IN.search(text)):
        text = text[: everything.start()] or ("/" if text.startswith("/") else ".")
    if word.expands and _HOME.fullmatch(text):
        return True
    path = place(Word(text, word.expands), call.cwd)
    return path in _ROOTS or path == ground.repo_root


def _operands(call: Call) -> Iterator[Word]:
    """Operands wherever they stand between options, as GNU programs read them."""
    words = iter(call.words[1:])
    for word in words:
        if word.text == "--":
            yield from words
        elif not word.text.startswith("-") or word.text == "-":
            yield word


def _has_flag(call: Call, letters: str, name: str) -> bool:
    """Whether an option is given, in a cluster or by its long name or an abbreviation of that."""
    for word in call.words[1:]:
        text = word.text
        if text == "--":
            return False
        if text.startswith("--"):
            if len(text) > 2 and name.startswith(text):
                return True
        elif text.startswith("-") and any(letter in letters for letter in text[1:]):
            return True
    return False


def _removes_root(call: Call, ground: Ground) -> bool:
    return (
        _has_flag(call, "rR", "--recursive")
        and _has_flag(call, "f", "--force")
        and any(_is_root(word, call, ground) for word in _operands(call))
    )


def _changes_root(call: Call, ground: Ground) -> bool:
    return _has_flag(call, "R", "--recursive") and any(
        _is_root(word, call, ground) for word in _operands(call)
    )


# -- evidence

_OWN_SCRATCH: Final = re.compile(r"\$(?:AIDER_FSM_ARTIFACTS_DIR\b|\{AIDER_FSM_ARTIFACTS_DIR\b[^}]*\})")
_EVIDENCE: Final = (".aider_fsm", "artifacts")


def _removes_evidence(call: Call, ground: Ground) -> bool:
    operands = list(_operands(call))
    if call.name == "mv":
        operands = operands[:-1]
    if call.name == "find" and not any(word.text == "-delete" for word in call.words):
        return False
    recursive = call.name == "mv" or (call.name == "rm" and _has_flag(call, "rR", "--recursive"))
    return any(_is_evidence(word, call.cwd, ground, recursive) for word in operands)


def _is_evidence(word: Word, cwd: str | None, ground: Ground, recursive: bool) -> bool:
    if word.expands and (own := _OWN_SCRATCH.match(word.text)):
        return posixpath.normpath("own/" + word.text[own.end() :]).split("/")[0] != "own"
    parts = _parts_in_repository(word, cwd, ground)
    if len(parts) < len(_EVIDENCE) and not recursive:
        return False
    matches = _globs if word.expands else str.__eq__
    return bool(parts) and all(matches(name, part) for name, part in zip(_EVIDENCE, parts, strict=False))


def _globs(name: str, pattern: str) -> bool:
    """Shell globbing: a leading dot is matched by a leading dot alone."""
    return name.startswith(".") == pattern.startswith(".") and fnmatch.fnmatchcase(name, pattern)


def _parts_in_repository(word: Word, cwd: str | None, ground: Ground) -> list[str]:
    """Path components below the repository; none if the path certainly lies elsewhere or is all of it."""
    path = posixpath.normpath(posixpath.join(cwd or ".", word.text))
    if path.startswith(ground.repo_root.rstrip("/") + "/"):
        path = path[len(ground.repo_root.rstrip("/")) + 1 :]
    elif path.startswith("/"):
        return []
    parts = path.split("/")
    if word.expands and "$" in parts[0] and _EVIDENCE[0] in parts:
        return parts[parts.index(_EVIDENCE[0]) :]
    while parts and parts[0] in {"..", "."}:
        del parts[0]
    return parts


# -- fork bombs


def _is_fork_bomb(found: Survey, _: Ground) -> bool:
    """Whether something calls itself twice at once: `f(){ f|f& };f`, by whatever names or detours."""
    bodies: dict[str, Part] = {function.name: function.body for function in found.functions}
    for script in found.scripts[:1]:
        bodies.setdefault("$0", Group("braces", script))
    called = {name: set(_programs(body)) for name, body in bodies.items()}
    return any(_multiplies(body, _reaching(name, called)) for name, body in bodies.items())


def _reaching(name: str, called: dict[str, set[str]]) -> set[str]:
    """The names whose call leads back to `name`."""
    reaching = {name}
    while more := {other for other, names in called.items() if names & reaching} - reaching:
        reaching |= more
    return reaching


def _programs(part: Part) -> Iterator[str]:
    if isinstance(part, Simple):
        if part.words:
            yield part.words[0].text
    elif isinstance(part, Group):
        for pipeline in part.body:
            for inner in pipeline.parts:
                yield from _programs(inner)


def _multiplies(part: Part, names: set[str]) -> bool:
    if not isinstance(part, Group):
        return False
    calls = 0
    for pipeline in part.body:
        inside = sum(name in names for inner in pipeline.parts for name in _programs(inner))
        if inside >= 2 and len(pipeline.parts) >= 2:
            return True
        calls += inside
    background = any(pipeline.background for pipeline in part.body if _mentions(pipeline, names))
    if calls >= 2 and background:
        return True
    return any(_multiplies(inner, names) for pipeline in part.body for inner in pipeline.parts)


def _mentions(pipeline: Pipeline, names: set[str]) -> bool:
    return any(name in names for part in pipeline.parts for name in _programs(part))


# -- engines

_ENGINE_VALUED: Final = names("-H --host -c --context --config -l --log-level --tlscacert --tlscert --tlskey")
_ENGINE_SWITCHES: Final = names(  # every other option of `docker run` takes a value
    "-d --detach -i --interactive -t --tty --rm --init -P --publish-all --privileged --read-only -q --quiet"
    " --no-healthcheck --oom-kill-disable --sig-proxy --disable-content-trust --replace --no-hosts --help"
)
_RUNNING: Final = frozenset({"run", "create", "exec"})
_NAMESPACES: Final = frozenset({"--pid", "--net", "--network", "--ipc", "--userns"})
_DANGEROUS_CAPABILITIES: Final = names(
    "ALL SYS_ADMIN SYS_MODULE SYS_PTRACE SYS_RAWIO SYS_BOOT SYS_TIME SYSLOG MAC_ADMIN MAC_OVERRIDE"
    " DAC_READ_SEARCH NET_ADMIN BPF PERFMON CHECKPOINT_RESTORE MKNOD"
)
_MOUNTED_ROOTS: Final = frozenset({"/", "/etc", "/home", "/root", "/var/run/docker.sock", "/run/docker.sock"})
_HOME_FOLDER: Final = re.compile(r"/home/[^/]+")
_MOUNT_SOURCE: Final = re.compile(r"(?:^|,)(?:source|src)=([^,]*)")


def _engine_words(call: Call) -> tuple[Word, ...]:
    """The subcommand of `docker` and what follows; `container run` is `run`."""
    rest = call.words[read_options(call.words, _ENGINE_VALUED).end :]
    return rest[1:] if len(rest) > 1 and rest[0].text == "container" else rest


def _engine_options(words: tuple[Word, ...]) -> Iterator[tuple[str, Word]]:
    """Options in front of the image, each with its value (`true` for a bare switch)."""
    at = 1
    while at < len(words) and words[at].text.startswith("-") and len(words[at].text) > 1:
        name, equals, value = words[at].text.partition("=")
        at += 1
        if equals:
            yield name, Word(value, words[at - 1].expands)
        elif name in _ENGINE_SWITCHES or _is_switch_cluster(name):
            yield name, Word("true")
        elif not name.startswith("--") and len(name) > 2:
            yield name[:2], Word(name[2:], words[at - 1].expands)
        elif at < len(words):
            yield name, words[at]
            at += 1


def _is_switch_cluster(name: str) -> bool:
    return name[1] != "-" and all(f"-{letter}" in _ENGINE_SWITCHES for letter in name[1:])


def _escapes_container(call: Call, _: Ground) -> bool:
    words = _engine_words(call)
    if not words or words[0].text not in _RUNNING:
        return False
    return any(_is_escape(name, value, call.cwd) for name, value in _engine_options(words))


def _is_escape(name: str, value: Word, cwd: str | None) -> bool:
    if name == "--privileged":
        return value.text.lower() not in {"false", "0"}
    if name in _NAMESPACES:
        return value.text == "host"
    if name == "--cap-add":
        return any(
            cap.upper().removeprefix("CAP_") in _DANGEROUS_CAPABILITIES for cap in value.text.split(",")
        )
    if name in {"-v", "--volume"}:
        return _is_dangerous_mount(value.text.split(":")[0], value.expands, cwd)
    if name == "--mount":
        source = _MOUNT_SOURCE.search(value.text)
        return source is not None and _is_dangerous_mount(source[1], value.expands, cwd)
    return name == "--device"


def _is_dangerous_mount(source: str, expands: bool, cwd: str | None) -> bool:
    if _HOME.fullmatch(source) and (expands or source.startswith("~")):
        return True
    path = place(Word(source, expands), cwd)
    return path is not None and (path in _MOUNTED_ROOTS or _HOME_FOLDER.fullmatch(path) is not None)


def _prunes(call: Call, _: Ground) -> bool:
    if call.name == "brew":
        return any(word.text in {"uninstall", "remove", "rm"} for word in call.words[1:2])
    words = [word.text for word in _engine_words(call)[:2]]
    return words in (["system", "prune"], ["volume", "prune"])


# -- downloads into an interpreter

_DOWNLOADERS: Final = frozenset({"curl", "wget"})


def _pipes_to_shell(found: Survey, _: Ground) -> bool:
    return any(_runs_download(pipeline) for pipeline in found.pipelines) or any(
        _runs_fetched(call) for call in found.calls
    )


def _runs_download(pipeline: Pipeline) -> bool:
    downloaded = False
    for part in pipeline.parts:
        if downloaded and _executes_stdin(part):
            return True
        downloaded = downloaded or _downloads(part)
    return False


def _runs_fetched(call: Call) -> bool:
    if _is_fetched(call.words[0]):
        return True
    source = source_of(call)
    if source is None:
        return False
    fed = [redirection.target for redirection in call.redirections if redirection.feeds_stdin]
    return _is_fetched(source.word) or (source.kind == "stdin" and any(map(_is_fetched, fed)))


def _is_fetched(word: Word) -> bool:
    """Whether a word begins with the output of a download."""
    return word.text.startswith(("$(", "`", "<(")) and any(map(_downloads_in, word.scripts))


def _downloads(part: Part) -> bool:
    if isinstance(part, Function):
        return False
    if any(_downloads_in(script) for word in words_of(part) for script in word.scripts):
        return True
    if isinstance(part, Group):
        return _downloads_in(part.body)
    return any(program(rest) in _DOWNLOADERS for rest in chain(part.words))


def _downloads_in(script: Script) -> bool:
    return any(_downloads(part) for pipeline in script for part in pipeline.parts)


def _executes_stdin(part: Part) -> bool:
    if isinstance(part, Group):
        return any(_executes_stdin(pipeline.parts[0]) for pipeline in part.body)
    if isinstance(part, Function) or any(redirection.feeds_stdin for redirection in part.redirections):
        return False
    sources = [source_of(Call(program(rest), rest)) for rest in chain(part.words)]
    return any(source is not None and source.kind == "stdin" for source in sources)


# -- the table

_BOTH: Final[tuple[Mode, ...]] = ("safe", "system")
_SAFE: Final[tuple[Mode, ...]] = ("safe",)


def _always(_call: Call, _ground: Ground) -> bool:
    return True


BUILT_IN_RULES: Final[tuple[Rule, ...]] = (
    Rule(
        name="rm_root",
        modes=_BOTH,
        meaning="recursive, forced `rm` on the file system's root, a system folder, a home or the whole repository",
        programs=("rm",),
        call=_removes_root,
        unreadable=r"\brm\s+-rf\s+(?:/\*?|~|\$HOME)\s*(?:$|[;&|\n])",
    ),
    Rule(
        name="fork_bomb",
        modes=_BOTH,
        meaning="a function or script that starts itself twice at once",
        whole=_is_fork_bomb,
        unreadable=r":\s*\(\s*\)\s*\{\s*:\s*\|\s*:\s*&\s*\}\s*;\s*:",
    ),
    Rule(
        name="evidence",
        modes=_BOTH,
        meaning="removing or moving `.aider_fsm/artifacts`, or what another stage left there",
        programs=("rm", "rmdir", "unlink", "shred", "truncate", "mv", "find"),
        call=_removes_evidence,
        unreadable=r"\brm\s+-rf\s+\.aider_fsm/artifacts",
    ),
    Rule(
        name="privilege",
        modes=_SAFE,
        meaning="`sudo`, `su`, `doas` or `pkexec`",
        programs=("sudo", "su", "doas", "pkexec"),
        call=_always,
        unreadable=r"\bsudo\b",
    ),
    Rule(
        name="disk",
        modes=_SAFE,
        meaning="`mkfs` of any kind, or `dd`",
        programs=("mkfs", "dd"),
        call=_always,
        unreadable=r"\b(?:mkfs|dd)\b",
    ),
    Rule(
        name="power",
        modes=_SAFE,
        meaning="`shutdown`, `reboot`, `halt` or `poweroff`",
        programs=("shutdown", "reboot", "halt", "poweroff"),
        call=_always,
        unreadable=r"\b(?:shutdown|reboot)\b",
    ),
    Rule(
        name="chmod_root",
        modes=_SAFE,
        meaning="recursive `chmod` or `chown` on what `rm_root` protects",
        programs=("chmod", "chown"),
        call=_changes_root,
    ),
    Rule(
        name="prune",
        modes=_SAFE,
        meaning="`brew uninstall`, `docker system prune` or `docker volume prune`",
        programs=("brew", "docker", "podman"),
        call=_prunes,
        unreadable=r"\bbrew\s+uninstall\b|\bdocker\s+(?:system|volume)\s+prune\b",
    ),
    Rule(
        name="docker_escape",
        modes=_SAFE,
        meaning="a container that is privileged, shares the host's namespaces or devices, or mounts `/`, `/etc`, "
        "a home or the engine's socket",
        programs=("docker", "podman"),
        call=_escapes_container,
    ),
    Rule(
        name="pipe_to_shell",
        modes=_SAFE,
        meaning="what `curl` or `wget` downloads, fed to a shell or to Python",
        whole=_pipes_to_shell,
        unreadable=r"\b(?:curl|wget)\b[^\n]*\|[^\n]*\b(?:ba|z)?sh\b",
    ),
)


class _RuleSet:
    """Some rules, arranged so that a call meets only those about its program."""

    def __init__(self, rules: Iterable[Rule], ground: Ground) -> None:
        self.ground = ground
        self.rules = tuple(rules)
        self.by_program: dict[str, list[Rule]] = {}
        for rule in self.rules:
            for name in rule.programs:
                self.by_program.setdefault(name, []).append(rule)
        self.whole = [(rule.name, rule.whole) for rule in self.rules if rule.whole is not None]
        self.unreadable = [
            (rule.name, re.compile(rule.unreadable, re.IGNORECASE)) for rule in self.rules if rule.unreadable
        ]

    def broken(self, found: Survey) -> str | None:
        """The name of the first rule that refuses something found."""
        return self._by_calls(found) or self._by_whole(found) or self._by_unread(found)

    def _by_calls(self, found: Survey) -> str | None:
        for call in found.calls:
            for rule in self.by_program.get("mkfs" if call.name.startswith("mkfs") else call.name, ()):
                if rule.call is not None and rule.call(call, self.ground):
                    return rule.name
        return None

    def _by_whole(self, found: Survey) -> str | None:
        return next((name for name, check in self.whole if check(found, self.ground)), None)

    def _by_unread(self, found: Survey) -> str | None:
        for text in found.unread:
            for name, pattern in self.unreadable:
                if pattern.search(text):
                    return name
        return None


# -- prompts


def _is_interactive(call: Call) -> bool:
    if call.name == "docker":
        return _is_docker_login(_engine_words(call))
    words = [word.text for word in call.words[1:3]]
    return (
        call.name == "gh"
        and words == ["auth", "login"]
        and not any(w.text == "--with-token" for w in call.words)
    )


def _is_docker_login(words: tuple[Word, ...]) -> bool:
    if not words or words[0].text != "login":
        return False
    options = read_options(words, frozenset({"-u", "--username", "-p", "--password"}))
    return not options.has("--password-stdin", "-p", "--password")


class Guard:
    """The command rules of one run: built once, asked before every try.

    Answers are kept per command text. In `system` mode only the rules for both modes hold. `interactive_auth`
    is for commands that are given a terminal, where prompts can be answered.
    """

    def __init__(
        self,
        mode: Mode,
        allowlist: Iterable[str] = (),
        denylist: Iterable[str] = (),
        *,
        repo_root: str,
        unattended: Literal["strict", "guided"] = "strict",
        interactive_auth: bool = False,
    ) -> None:
        ground = Ground(posixpath.normpath(repo_root))
        self.repo_root = ground.repo_root
        self._hard = _RuleSet((rule for rule in BUILT_IN_RULES if "system" in rule.modes), ground)
        safe = (rule for rule in BUILT_IN_RULES if mode == "safe" and "system" not in rule.modes)
        self._safe = _RuleSet(safe, ground)
        self._allow = [re.compile(pattern, re.IGNORECASE) for pattern in allowlist]
        self._deny = [re.compile(pattern, re.IGNORECASE) for pattern in denylist]
        self._refuses_prompts = unattended == "strict" and not interactive_auth
        self._answers: dict[str, str | None] = {}

    def refusal(self, command: str) -> str | None:
        """Why the text of this command is refused, in the words of the contract; None if it may run."""
        try:
            return self._answers[command]
        except KeyError:
            answer = self._answers[command] = self._judge(command)
            return answer

    def refused_in_script(self, text: str, found: Survey | None = None) -> str | None:
        """The rule or deny pattern that refuses a script's text.

        `found` is the survey of a shell script; without it, only the deny patterns are searched.
        """
        if found is not None and (rule := self._hard.broken(found) or self._safe.broken(found)):
            return rule
        return self._denied(text)

    def _judge(self, command: str) -> str | None:
        if not command.strip():
            return "empty_command"
        found = survey(command, known={"AIDER_FSM_REPO_ROOT": self.repo_root})
        if rule := self._hard.broken(found):
            return f"blocked_by_hard_deny: {rule}"
        if (pattern := self._denied(command)) is not None:
            return f"blocked_by_denylist: {pattern}"
        if rule := self._safe.broken(found):
            return f"blocked_by_default_safe_deny: {rule}"
        if self._allow and not any(allowed.search(command) for allowed in self._allow):
            return "blocked_by_allowlist"
        if self._refuses_prompts and any(map(_is_interactive, found.calls)):
            return INTERACTIVE_REFUSED
        return None

    def _denied(self, text: str) -> str | None:
        return next((pattern.pattern for pattern in self._deny if pattern.search(text)), None)
