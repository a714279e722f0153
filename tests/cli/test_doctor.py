"""`fsmrt doctor`: every finding with its fix, and a code that a script can use."""

from __future__ import annotations

from typing import Any

REQUIRED = {
    "python",
    "platform",
    "pidfd",
    "containment",
    "state folder",
    "redaction key",
    "disk",
    "git",
    "terminal",
}


def test_a_machine_that_runs_tests_is_fit(user: Any) -> None:
    findings = user.document("doctor")["findings"]
    assert {finding["name"] for finding in findings} > REQUIRED
    assert all(finding["fix"] for finding in findings if finding["level"] != "ok")
    assert {finding["name"] for finding in findings if finding["code"] == "not_in_this_version"} == {
        "sandbox docker", "sandbox bwrap",
    }  # fmt: skip


def test_a_missing_state_folder_is_missing(user: Any) -> None:
    (user.home / "state").write_text("a file where a folder belongs")
    document = user.document("doctor", code=4)
    assert document["ok"] is False
    (finding,) = (finding for finding in document["findings"] if finding["level"] == "missing")
    assert (finding["code"], "FSMRT_STATE_DIR" in finding["fix"]) == ("state_unusable", True)


def test_it_reads_well_without_a_terminal(user: Any) -> None:
    done = user.types("doctor")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert done.stdout.startswith("✓ python")


def test_signs_have_stand_ins(user: Any) -> None:
    done = user.types("doctor", PYTHONIOENCODING="ascii")
    assert done.stdout.startswith("+ python")
