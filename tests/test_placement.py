from __future__ import annotations

import pytest

from fsmrt.contract.model import Mode, SandboxWishes
from fsmrt.placement import place, unenforced
from fsmrt.settings import SandboxChoice


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize("choice", ["auto", "host", "docker", "bwrap"])
@pytest.mark.parametrize("mode", ["safe", "system"])
def test_nothing_runs_on_this_machine_without_somebodys_consent(
    mode: Mode, choice: SandboxChoice, remote: bool, allow: bool
) -> None:
    placement = place(mode, choice, remote=remote, allow_system=allow)

    consent = choice == "host" or (choice == "auto" and mode == "system" and (allow or not remote))
    assert (placement.kind == "host") == consent
    assert placement.why
    assert any(warning.startswith("no_wall") for warning in placement.warnings) == consent


def test_a_refusal_says_what_would_help() -> None:
    assert "--sandbox host" in place("safe", "auto", remote=False, allow_system=False).why
    assert "--allow-system" in place("system", "auto", remote=True, allow_system=False).why
    assert "docker" in place("safe", "docker", remote=False, allow_system=False).why


def test_what_the_host_cannot_hold_to_is_said() -> None:
    assert unenforced("host", SandboxWishes()) == ()
    (text,) = unenforced("host", SandboxWishes(network="none", memory=1 << 30))
    assert text.startswith("not_enforced: sandbox.network, sandbox.memory: ")
    assert unenforced("docker", SandboxWishes(network="none")) == ()
