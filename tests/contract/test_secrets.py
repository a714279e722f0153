"""Which variables are secret."""

from __future__ import annotations

import pytest

from fsmrt.contract.secrets import is_secret_name, secret_values, unredactable


@pytest.mark.parametrize(
    "name",
    [
        "KEY",
        "API_KEY",
        "OPENAI_API_KEY",
        "aws_secret_access_key",
        "HF_TOKEN",
        "DB_PASSWORD",
        "X_PASSWD",
        "MYSQL_PWD",
        "PASS",
        "GOOGLE_CREDENTIALS",
        "MY_CREDENTIAL_FILE",
        "OPENAPIKEY",
        "apikey",
    ],
)
def test_secret_names(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["BYPASS_CACHE", "MONKEY", "TOKENS", "MAX_TOKENS", "KEYBOARD", "PWD", "OLDPWD", "PATH", ""]
)
def test_names_that_only_look_like_it(name: str) -> None:
    assert not is_secret_name(name)


def test_values_are_secret_by_name_or_because_the_operator_said_so() -> None:
    passed = {
        "A_TOKEN": "123456",
        "PLAIN": "visible",
        "PIN": "hidden!",
        "B_TOKEN": "local",
        "C_KEY": "12345",
        "D_KEY": "",
    }
    assert secret_values(passed, {"PIN", "ABSENT"}) == {"A_TOKEN": "123456", "PIN": "hidden!"}
    assert unredactable(passed, {"PIN"}) == ("C_KEY",)
