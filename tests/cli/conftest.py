"""A user who types commands: a home of their own, a repository, and processes that are really started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

# A test run in the background of a shell without job control inherits an ignored SIGINT.
_LISTENING = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from fsmrt.cli.__main__ import main; sys.exit(main(sys.argv[1:]))"
)
PATIENCE = 60


class User:
    """Somebody at a prompt, without a terminal."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.repository = home / "repository"
        self.repository.mkdir(parents=True)
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "FSMRT_STATE_DIR": str(home / "state"),
            "XDG_CONFIG_HOME": str(home / "config"),
        }
        self.started: list[subprocess.Popen[str]] = []

    def contract(self, text: str) -> None:
        """Write `pipeline.yml`."""
        (self.repository / "pipeline.yml").write_text(textwrap.dedent(text))

    def configures(self, text: str) -> None:
        """Write the user's configuration file."""
        path = self.home / "config" / "fsmrt" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def types(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run `fsmrt` with these words in the repository."""
        return subprocess.run(
            [sys.executable, "-m", "fsmrt.cli", *words],
            cwd=self.repository, env={**self.environ, **environ}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    def starts(self, *words: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """The same, without waiting for its end."""
        process = subprocess.Popen(
            [sys.executable, "-c", _LISTENING, *words],
            cwd=self.repository, env=self.environ, stdin=subprocess.DEVNULL,
            stdout=stdout, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.started.append(process)
        return process

    def document(self, *words: str, code: int = 0) -> dict[str, Any]:
        """What a command with `--json` prints: one document, and nothing else."""
        done = self.types(*words, "--json")
        assert done.returncode == code, done.stdout + done.stderr
        document = json.loads(done.stdout)
        assert isinstance(document, dict)
        assert done.stdout.count("\n") == 1
        return document

    def runs(self) -> list[Path]:
        """The run folders there are, oldest first."""
        return sorted((self.repository / ".aider_fsm" / "artifacts").glob("*"))

    def leave(self) -> None:
        for process in self.started:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in filter(None, (process.stdout, process.stderr)):
                pipe.close()
        self.types("gc")


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    user = User(tmp_path)
    yield user
    user.leave()


def lines_until(stream: Any, wanted: str) -> Sequence[str]:
    """Read lines up to the one that contains `wanted`."""
    seen = []
    for line in stream:
        seen.append(line)
        if wanted in line:
            return seen
    raise AssertionError(f"{wanted!r} never came; there was {seen}")
