"""`fsmrt init`: a first contract from what the repository shows. Looks at files; executes nothing."""

from __future__ import annotations

import os
import stat
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..contract.detect import Proposal, propose, wants_contents
from ..contract_files import BOOTSTRAP, read_contract
from ..repository import CONTRACT_DIR, Repository
from .diagnostics import tally
from .output import Console, Output, console, printable
from .target import repository_at
from .usage import UsageError

PIPELINE = "pipeline.yml"
IGNORE = f"{CONTRACT_DIR}/.gitignore"
IGNORED = """\
# What a run writes. The contract itself belongs into version control.
artifacts/
venv/
run.lock
metrics.json
rollout.json
runtime_env.json
hints_used.json
hints_run.json
"""

_DEEPEST, _MOST_FILES, _LARGEST = 4, 20_000, 1 << 20
_OTHERS_WORK = frozenset({"node_modules", "vendor", "venv", "target", "build", "dist", "__pycache__"})


def main(args: Namespace) -> int:
    """0 when the files are written, or printed."""
    screen = console(no_color=args.no_color)
    repository = repository_at(args.directory)
    proposal = propose(look_at(repository.root))
    if args.print:
        screen.out.write(_as_one_text(proposal))
        return 0
    files = _files(proposal, repository)
    _refuse_to_overwrite(files, repository, force=args.force)
    for name, text in files.items():
        _write(repository, name, text)
    _tell(proposal, files, repository, screen)
    return 0


def look_at(root: Path) -> dict[str, bytes | None]:
    """The files of a tree by relative path; contents where a proposal can use them. Bounded in every direction."""
    found: dict[str, bytes | None] = {}
    for path in _walk(root):
        name = path.relative_to(root).as_posix()
        found[name] = _contents(path) if wants_contents(name) else None
        if len(found) >= _MOST_FILES:
            break
    return found


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        too_deep = len(here.relative_to(root).parts) >= _DEEPEST
        folders[:] = [] if too_deep else sorted(name for name in folders if _is_worth_a_look(name))
        yield from (here / name for name in sorted(names))


def _is_worth_a_look(folder: str) -> bool:
    return not folder.startswith(".") and folder not in _OTHERS_WORK


def _contents(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # what cannot be read shows nothing
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_LARGEST) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def _as_one_text(proposal: Proposal) -> str:
    if proposal.bootstrap_yml is None:
        return proposal.pipeline_yml
    return f"{proposal.pipeline_yml}---\n# {BOOTSTRAP}\n{proposal.bootstrap_yml}"


def _files(proposal: Proposal, repository: Repository) -> dict[str, str]:
    files = {PIPELINE: proposal.pipeline_yml}
    if proposal.bootstrap_yml is not None:
        files[BOOTSTRAP] = proposal.bootstrap_yml
    if _is_in_git(repository.root) and not os.path.lexists(repository.root / IGNORE):
        files[IGNORE] = IGNORED
    return files


def _is_in_git(root: Path) -> bool:
    return any((folder / ".git").exists() for folder in (root, *root.parents))


def _refuse_to_overwrite(files: Mapping[str, str], repository: Repository, *, force: bool) -> None:
    # A bootstrap.yml of before counts also where none is proposed: it would run in front of the new contract.
    there = [
        name
        for name in {**files, BOOTSTRAP: ""}
        if name != IGNORE and os.path.lexists(repository.root / name)
    ]
    if there and not force:
        raise UsageError(
            f"there is a contract already: {', '.join(there)}. --force replaces it; --print only shows a proposal"
        )


def _write(repository: Repository, name: str, text: str) -> None:
    problem = repository.write_file(name, text)
    if problem is not None:
        raise UsageError(problem.message)


def _tell(proposal: Proposal, files: Mapping[str, str], repository: Repository, screen: Console) -> None:
    out = screen.out
    for reason in proposal.reasons:
        out.line(f"{out.paint('found', 'dim')}  {printable(reason)}")
    for name in files:
        out.line(f"{out.paint('wrote', 'green')}  {name}")
    contract = read_contract(repository)
    if contract.problems:
        screen.err.line(f"fsmrt check has remarks: {tally(contract.problems)}")
    _tell_next_steps(bool(contract.accepted().tests.cmds), out)


def _tell_next_steps(has_tests: bool, out: Output) -> None:
    first = f"read {PIPELINE}" if has_tests else f"write commands into {PIPELINE}: none were found"
    out.line()
    out.line(f"Next: {first}, and change what is not right; then")
    for command, why in (
        ("fsmrt check", "every problem of it at once"),
        ("fsmrt plan --sandbox host", "what would run, where, with which limits"),
        ("fsmrt run --sandbox host", "run it"),
    ):
        out.line(f"  {out.paint(f'{command:<27}', 'bold')}{out.paint(why, 'dim')}")
