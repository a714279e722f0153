"""The environment of commands: a plain mapping, put together from named levels, low to high.

    inherited < bootstrap < stage env < session values < the operator's < forced session values
    then, only where still unset: strict defaults and what every command may expect
    then `forced`, which nothing replaces

Nothing here reads or writes the environment of fsmrt's own process: two runs in one process can never see
each other's values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import PurePath, PurePosixPath
from typing import Any, Final, Literal

import msgspec

Environment = Mapping[str, str]
Unattended = Literal["strict", "guided"]

_NOTHING: Final[Environment] = {}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# -- what the caller's environment gives

_INHERITED: Final = _names(
    "PATH HOME SHELL TMPDIR LANG TERM TZ USER LOGNAME"
    " http_proxy https_proxy no_proxy all_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY"
    " SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE"
    " VIRTUAL_ENV LD_LIBRARY_PATH CUDA_VISIBLE_DEVICES KUBECONFIG DOCKER_HOST DOCKER_CONTEXT DOCKER_CONFIG"
)
_INHERITED_PREFIXES: Final = ("LC_", "XDG_", "OPENAI_", "AIDER_")

STRICT_DEFAULTS: Final[Environment] = {
    "CI": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PYTHONUNBUFFERED": "1",
}


def inherited(environ: Environment) -> dict[str, str]:
    """What commands on the host get of the caller's environment; everything else must be passed by name."""
    return {
        name: value
        for name, value in environ.items()
        if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }


def strict_defaults(unattended: Unattended) -> Environment:
    """What is set where unset, so that programs do not wait for somebody to answer."""
    return STRICT_DEFAULTS if unattended == "strict" else _NOTHING


# -- the model measured


class Llm(msgspec.Struct, frozen=True):
    kind: Literal["remote", "local_hf"]
    model: str
    """The id of a remote model, or the name of the folder."""
    path: str | None = None
    """The folder of a local model, absolute."""


def parse_llm(llm: str | PurePath, folder_at: Callable[[str], str | None]) -> Llm:
    """Tells a local folder from the id of a remote model.

    `folder_at` gives the absolute path of the folder at a path (`~` is the home), None where there is nothing,
    and raises `NotADirectoryError` where something else is. Raises `ValueError`, `FileNotFoundError` or
    `NotADirectoryError` in the words of the contract.
    """
    text = str(llm).strip()
    if not text:
        raise ValueError("empty_llm")
    must_exist = isinstance(llm, PurePath) or text.startswith(("/", "./", "../", "~"))
    try:
        folder = folder_at(text)
    except NotADirectoryError:
        if must_exist:
            raise NotADirectoryError(f"llm_not_directory: {text}") from None
        folder = None
    if folder is not None:
        return Llm("local_hf", PurePosixPath(folder).name, folder)
    if must_exist:
        raise FileNotFoundError(f"llm_path_not_found: {text}")
    return Llm("remote", text)


def base_url(text: str) -> str:
    """The base of an OpenAI-style endpoint: no slash at the end, `/v1` there."""
    base = text.strip().rstrip("/")
    return base if not base or base.endswith("/v1") else f"{base}/v1"


def configured_base_url(overrides: Environment, environ: Environment) -> str | None:
    """The endpoint somebody chose: the operator's overrides, else the caller's environment."""
    for env in (overrides, environ):
        for name in _BASE_NAMES:
            if base := base_url(env.get(name, "")):
                return base
    return None


def deployed_base_url(runtime_env: Mapping[str, Any]) -> str | None:
    """The endpoint a deployment announced in `runtime_env.json`."""
    for path in (("inference", "openai_base_url"), ("inference", "base_url"), ("service", "base_url")):
        if base := base_url(_text_at(runtime_env, *path)):
            return base
    return None


_BASE_NAMES: Final = ("OPENAI_BASE_URL", "OPENAI_API_BASE")


def _text_at(document: Mapping[str, Any], section: str, name: str) -> str:
    inside = document.get(section)
    value = inside.get(name) if isinstance(inside, dict) else None
    return value if isinstance(value, str) else ""


# -- session values


class SessionValues(msgspec.Struct, frozen=True, kw_only=True):
    """What a session adds for deploy, rollout, evaluation, benchmark and teardown."""

    values: dict[str, str] = msgspec.field(default_factory=dict)
    """The operator's own values beat these .."""
    forced: dict[str, str] = msgspec.field(default_factory=dict)
    """.. but not these."""
    removed: frozenset[str] = frozenset()
    """Names that no level below `forced` may set."""


def session_values(
    *,
    mode: Literal["smoke", "full"],
    llm: Llm | None = None,
    overrides: Environment = _NOTHING,
    environ: Environment = _NOTHING,
) -> SessionValues:
    """The values before anything is deployed. Without an `llm`, nothing about a model is said."""
    values: dict[str, str] = {"AIDER_EVAL_MODE": mode}
    if llm is None:
        return SessionValues(values=values)
    forced: dict[str, str] = {"AIDER_LLM_KIND": llm.kind}
    values["OPENAI_MODEL"] = llm.model
    if llm.path is None:
        forced["AIDER_LLM_MODEL"] = llm.model
        removed = "AIDER_TRAINED_MODEL_DIR"
    else:
        forced["AIDER_TRAINED_MODEL_DIR"] = llm.path
        values["OPENAI_API_KEY"] = "local"
        removed = "AIDER_LLM_MODEL"
    base = configured_base_url(overrides, environ)
    if base is not None:
        forced.update(dict.fromkeys(_BASE_NAMES, base))
    return SessionValues(values=values, forced=forced, removed=frozenset({removed}))


def after_deploy(
    session: SessionValues, runtime_env: Mapping[str, Any] | None, *, llm: Llm | None, runtime_env_path: str
) -> SessionValues:
    """The values once a deployment succeeded; `runtime_env` is the object it wrote, if it did."""
    forced = dict(session.forced)
    forced["AIDER_RUNTIME_ENV_PATH"] = runtime_env_path
    if llm is not None and runtime_env:
        base = deployed_base_url(runtime_env)
        if base is not None and (llm.kind == "local_hf" or _BASE_NAMES[0] not in forced):
            forced.update(dict.fromkeys(_BASE_NAMES, base))
        if model := _text_at(runtime_env, "inference", "model"):
            forced.setdefault("AIDER_LLM_MODEL", model)
    return SessionValues(values=session.values, forced=forced, removed=session.removed)


# -- putting it together

FORCED_NAMES: Final = frozenset(
    {"AIDER_FSM_STAGE", "AIDER_FSM_ARTIFACTS_DIR", "AIDER_FSM_REPO_ROOT", "AIDER_FSM_NONCE", "FSMRT_RUN"}
)


def stage_env(
    *,
    inherited: Environment,
    bootstrap: Environment = _NOTHING,
    stage_env: Environment = _NOTHING,
    session: SessionValues | None = None,
    operator: Environment = _NOTHING,
    unattended: Unattended = "strict",
    run_id: str,
    repo_root: str,
    runner_root: str,
    python: str | None,
) -> dict[str, str]:
    """Everything the commands of one stage share; `forced` goes on top of it for each of them."""
    session = session or SessionValues()
    env = {**inherited, **bootstrap, **stage_env, **session.values, **operator}
    for name in session.removed:
        env.pop(name, None)
    env.update(session.forced)
    expected = {
        **strict_defaults(unattended),
        "AIDER_FSM_RUN_ID": run_id,
        "AIDER_FSM_RUNNER_ROOT": runner_root,
    }
    if python is not None:
        expected["AIDER_FSM_PYTHON"] = python
    env = {**expected, **env, "AIDER_FSM_REPO_ROOT": repo_root}
    env["PYTHONPATH"] = _appended(env.get("PYTHONPATH", ""), env["AIDER_FSM_RUNNER_ROOT"])
    return env


def forced(stage: str, scratch_dir: str, nonce: str, run_id: str, repo_root: str) -> dict[str, str]:
    """What no level below can replace."""
    return {
        "AIDER_FSM_STAGE": stage,
        "AIDER_FSM_ARTIFACTS_DIR": scratch_dir,
        "AIDER_FSM_REPO_ROOT": repo_root,
        "AIDER_FSM_NONCE": nonce,
        "FSMRT_RUN": run_id,
    }


def _appended(search_path: str, folder: str) -> str:
    segments = search_path.split(":") if search_path else []
    return search_path if folder in segments else ":".join([*segments, folder])


# -- bootstrap

_EXPANSION: Final = re.compile(r"\$(?:(\$)|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)


def bootstrap_env(
    entries: Environment, base: Environment, repo_root: str, which: Callable[[str, str], str | None]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The entries of `bootstrap.yml` expanded in file order, and warnings.

    `base` is the environment bootstrap commands get without them; `which(name, path)` finds a program on a
    search path.
    """
    known = {**base, "AIDER_FSM_REPO_ROOT": repo_root}
    found: dict[str, str] = {}
    for name, text in entries.items():
        known[name] = found[name] = _expanded(text, known)
    if "PATH" in found:
        segments = [_in_repository(segment, repo_root) for segment in found["PATH"].split(":")]
        found["PATH"] = ":".join(segments)
    warnings: tuple[str, ...] = ()
    if python := found.get("AIDER_FSM_PYTHON", ""):
        path = found.get("PATH", base.get("PATH", ""))
        found["AIDER_FSM_PYTHON"], warnings = _python(python, path, repo_root, which)
    return found, warnings


def _expanded(text: str, known: Environment) -> str:
    return _EXPANSION.sub(lambda match: match[1] or known.get(match[2] or match[3], ""), text)


def _in_repository(segment: str, repo_root: str) -> str:
    """A relative segment made absolute, symlinks as they are; what is empty or unexpanded stays."""
    if not segment or segment.startswith("/") or "$" in segment:
        return segment
    return str(PurePosixPath(repo_root) / segment)


def _python(
    value: str, path: str, repo_root: str, which: Callable[[str, str], str | None]
) -> tuple[str, tuple[str, ...]]:
    if "/" in value:
        return str(PurePosixPath(repo_root) / value), ()
    program = which(value, path)
    if program is None:
        return value, (f"AIDER_FSM_PYTHON: {value} is not on PATH yet",)
    return program, ()


# -- variables somebody will miss

_MENTIONED: Final = re.compile(r"\$(?:([A-Za-z_]\w*)|\{[#!]?([A-Za-z_]\w*))", re.ASCII)
_ASSIGNED: Final = re.compile(
    r"(?:^|[\s;&|(])([A-Za-z_]\w*)\+?=|\b(?:for|read(?:[ \t]+-\w+)*)[ \t]+([A-Za-z_]\w*)", re.ASCII
)
_COMMENT_LINE: Final = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
_THE_SHELLS_OWN: Final = _names(
    "PWD OLDPWD SHLVL PPID UID EUID GROUPS RANDOM SECONDS LINENO IFS OPTIND OPTARG HOSTNAME HOSTTYPE OSTYPE"
    " MACHTYPE FUNCNAME PIPESTATUS REPLY PS1 PS2 PS4 BASH BASHPID BASHOPTS"
    " BASH_SOURCE BASH_VERSION BASH_VERSINFO"
)


def missing_variables(text: str, environ: Environment, passed: Collection[str]) -> list[str]:
    """Names that `text` uses as `$NAME`, that are set for the caller, and that commands do not get.

    In order of first use. Names which the text itself assigns, and the shell's own, are not missed.
    """
    text = _COMMENT_LINE.sub("", text)
    mentioned = dict.fromkeys(match[1] or match[2] for match in _MENTIONED.finditer(text))
    known = _THE_SHELLS_OWN | FORCED_NAMES | {match[1] or match[2] for match in _ASSIGNED.finditer(text)}
    return [name for name in mentioned if name in environ and name not in passed and name not in known]


def missing_variable_hint(name: str) -> str:
    return f"{name} is set but not passed to commands; add --env {name} (or --secret {name})"
