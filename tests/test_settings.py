from __future__ import annotations

from fsmrt.settings import CORE_LAYERS, LAYERS, Settings


def test_layers_are_looked_at_unless_switched_off() -> None:
    assert [layer for layer in LAYERS if Settings().observes(layer)] == list(CORE_LAYERS)
    assert not Settings(observe={"process": "off"}).observes("process")
    assert Settings(observe={"kernel": "try"}).observes("kernel")


def test_a_secret_is_passed_like_any_other_variable_and_wins() -> None:
    settings = Settings(env={"A": "1", "B": "1"}, secrets={"B": "2"})

    assert settings.operator_env == {"A": "1", "B": "2"}


def test_the_environment_can_be_exchanged_and_nothing_else_changes() -> None:
    settings = Settings(mode="full", environ={"A": "1"})

    changed = settings.with_environ({"B": "2"})

    assert (changed.environ, changed.mode, settings.environ) == ({"B": "2"}, "full", {"A": "1"})


def test_words_that_are_no_choice_are_all_named() -> None:
    settings = Settings(sandbox="moon", mode="slow", observe={"process": "maybe"})  # type: ignore[arg-type,dict-item]

    assert [field for _, field, _ in settings.problems()] == ["sandbox", "mode", "observe.process"]
    assert Settings(sandbox="host", observe={"process": "off"}).problems() == []
