"""A proposed contract as YAML text, with the remarks a first reader needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

PIPELINE = """\
# What this repository promises, and how to run it.
#   fsmrt check     every problem of this file at once
#   fsmrt plan      what would run, where and with which limits
#   fsmrt run       run it
#
{reasons}
version: 1

security:
  # safe: commands belong in a sandbox, and the command rules for it apply. system: they run on this machine.
  mode: safe
  # Seconds. Limits for one try of a command and for one stage; both stop a command that is running.
  max_cmd_seconds: 1800
  max_total_seconds: 3600
{sandbox}
tests:
{tests}
# Further stages, run in this order when they have commands. A score needs an evaluation with a metrics file:
# one JSON object with "ok": true and a number "score".
#
# deploy:
#   setup_cmds: [sh .aider_fsm/stages/deploy_setup.sh]
#   health_cmds: [sh .aider_fsm/stages/deploy_health.sh]
#   teardown_cmds: [sh .aider_fsm/stages/deploy_teardown.sh]
#
# rollout:
#   run_cmds: [sh .aider_fsm/stages/rollout.sh]
#
# evaluation:
#   run_cmds: [sh .aider_fsm/stages/evaluation.sh]
#   metrics_path: .aider_fsm/metrics.json
#   required_keys: [ok, score]
"""

TESTS = """\
  # Seconds; the limit of one try of one command.
  timeout_seconds: 900
  cmds:
{commands}"""

NO_TESTS = """\
  # No test command is known yet, so nothing is run and nothing is claimed. Write one command a line:
  #   - make test
  cmds: []
"""

SANDBOX = """\

sandbox:
  # Used when commands run in a container; it must have the tools the commands call.
  image: {image}
"""

BOOTSTRAP = """\
# Prepares what the stages need; runs once before them. A second run finds most of it done.
version: 1
# Seconds; the limit of one try of one command. Downloads fail now and then, hence the second try.
timeout_seconds: 900
retries: 1
{env}cmds:
{commands}"""


def pipeline(tests: Iterable[str], reasons: Iterable[str], image: str | None) -> str:
    """`pipeline.yml` with these test commands, each reason a comment at its head."""
    commands = _items(tests, "    ")
    remarks = "".join(f"#   {reason}\n" for reason in map(_one_line, reasons))
    seen = f"# Proposed from:\n{remarks}" if remarks else "# Proposed without any project file to go by.\n"
    return PIPELINE.format(
        reasons=seen,
        sandbox=SANDBOX.format(image=_quoted(image)) if image else "",
        tests=TESTS.format(commands=commands) if commands else NO_TESTS,
    )


def bootstrap(commands: Iterable[str], env: Mapping[str, str]) -> str:
    """`.aider_fsm/bootstrap.yml` with these commands; `env` is kept for every stage after it."""
    lines = "".join(f"  {name}: {_quoted(value)}\n" for name, value in env.items())
    return BOOTSTRAP.format(env=f"env:\n{lines}" if lines else "", commands=_items(commands, "  "))


def _items(texts: Iterable[str], indent: str) -> str:
    return "".join(f"{indent}- {_quoted(text)}\n" for text in texts)


def _quoted(text: str) -> str:
    """A YAML scalar in single quotes, in which every printable character stands for itself."""
    return "'" + text.replace("'", "''") + "'"


def _one_line(text: str) -> str:
    return " ".join(text.split())
