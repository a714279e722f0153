from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fsmrt.contract.actions import read_actions
from fsmrt.contract.bootstrap import read_bootstrap
from fsmrt.contract.pipeline import read_pipeline
from fsmrt.contract.reading import Reading
from fsmrt.contract.schema import Which, json_schema

READERS: dict[Which, Callable[[bytes], Reading[Any]]] = {
    "pipeline": read_pipeline,
    "bootstrap": read_bootstrap,
    "actions": read_actions,
}
VALIDATORS = {which: jsonschema.Draft202012Validator(json_schema(which)) for which in READERS}

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.yml"))


def is_fine(which: Which, text: str) -> bool:
    return all(found.level == "warning" for found in READERS[which](text.encode()).problems)


def is_valid(which: Which, text: str) -> bool:
    return VALIDATORS[which].is_valid(yaml.safe_load(text))


@pytest.mark.parametrize("which", READERS)
def test_it_is_a_schema_and_json(which: Which) -> None:
    schema = json_schema(which)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema
    assert schema["$schema"].endswith("2020-12/schema")


def test_every_field_of_the_model_is_described_by_its_section() -> None:
    definitions = json_schema()["$defs"]
    assert set(definitions["Evaluation"]["properties"]) == {
        "timeout_seconds",
        "retries",
        "env",
        "workdir",
        "run_cmds",
        "run_cmd",
        "metrics_path",
        "required_keys",
    }
    assert {"steps", "cmd"} <= definitions["Auth"]["properties"].keys()
    assert "tooling" in json_schema()["properties"]


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
def test_realistic_contracts_are_valid(file: Path) -> None:
    VALIDATORS["pipeline"].validate(yaml.safe_load(file.read_text()))


VALID: list[tuple[Which, str]] = [
    ("pipeline", "{version: '1', x-a: 1}"),
    ("pipeline", "tests: {timeout_seconds: 0, retries: ' 3 ', x-b: [1]}"),
    ("pipeline", "security: {mode: ' SYSTEM ', allowlist: ['']}"),
    ("pipeline", "auth: {interactive: 'Yes', steps: [a]}"),
    ("pipeline", "deploy: {kubectl_dump: ~, teardown_cmd: a, workdir: 3}"),
    ("pipeline", "sandbox: {network: {deploy: NONE}, memory: 1.5 GiB, cpus: '2', gpus: [0], user: '1:1'}"),
    ("pipeline", "sandbox: {mounts: [{source: a, target: /b}], gpus: All}"),
    ("bootstrap", "cmds: {run: a}"),
    ("bootstrap", "boot: {steps: [a, {command: b}]}"),
    ("bootstrap", "{steps: a, cwd: b, timeout: 3, retry: 1}"),
    ("actions", "actions: [{cmd: a, id: 3}, {kind: Write_File, path: a, content: 3}]"),
    ("actions", "actions: ~"),
]
INVALID: list[tuple[Which, str]] = [
    ("pipeline", "[]"),
    ("pipeline", "version: 2"),
    ("pipeline", "test: {}"),
    ("pipeline", "tests: []"),
    ("pipeline", "tests: {cmds: [true]}"),
    ("pipeline", "tests: {cmds: ['  ']}"),
    ("pipeline", "tests: {cmd: ''}"),
    ("pipeline", "tests: {cmds: a}"),
    ("pipeline", "tests: {timeout_seconds: -1}"),
    ("pipeline", "tests: {timeout_seconds: 1.5}"),
    ("pipeline", "tests: {timeout_seconds: true}"),
    ("pipeline", "tests: {timeout_seconds: 10m}"),
    ("pipeline", "tests: {env: {A: [b]}}"),
    ("pipeline", "tests: {env: {A=B: c}}"),
    ("pipeline", "tests: {workdir: true}"),
    ("pipeline", "auth: {interactive: 2}"),
    ("pipeline", "security: {mode: fast}"),
    ("pipeline", "tooling: {tools: a}"),
    ("pipeline", "deploy: {kubectl_dump: {name: x}}"),
    ("pipeline", "sandbox: {network: closed}"),
    ("pipeline", "sandbox: {network: {test: open}}"),
    ("pipeline", "sandbox: {memory: 4x}"),
    ("pipeline", "sandbox: {pids: 0}"),
    ("pipeline", "sandbox: {mounts: [{source: a}]}"),
    ("bootstrap", "timeout_seconds: 0"),
    ("bootstrap", "cmds: [{}]"),
    ("bootstrap", "cmd: a"),
    ("actions", "actions: {cmd: a}"),
    ("actions", "actions: [{kind: dance}]"),
    ("actions", "actions: [a]"),
]


@pytest.mark.parametrize(("which", "text"), VALID)
def test_accepted_by_both(which: Which, text: str) -> None:
    assert is_fine(which, text)
    VALIDATORS[which].validate(yaml.safe_load(text))


@pytest.mark.parametrize(("which", "text"), INVALID)
def test_refused_by_both(which: Which, text: str) -> None:
    assert not is_fine(which, text)
    assert not is_valid(which, text)


SCALARS = st.sampled_from(
    """
    ~ true no ON 0 1 -3 1.0 1.5 010 1:30 '' '30' '-0' '+1' 4g 1.5GiB safe ALWAYS all image '1:2' /d a.b abc
    """.split()  # noqa: SIM905
)
FIELDS = [
    (path, name)
    for path, names in {
        "": "version",
        "security": "mode max_cmd_seconds max_total_seconds",
        "auth": "cmd cmds interactive steps retries timeout_seconds env workdir",
        "deploy": "setup_cmds teardown_policy kubectl_dump",
        "evaluation": "run_cmd run_cmds metrics_path required_keys",
        "sandbox": "image rootfs network memory cpus pids disk gpus user",
        "artifacts": "out_dir",
    }.items()
    for name in names.split()
]


@given(
    st.sampled_from(FIELDS),
    st.one_of(
        SCALARS,
        st.lists(SCALARS, max_size=2).map(lambda items: f"[{', '.join(items)}]"),
        SCALARS.map(lambda item: f"{{A: {item}}}"),
        SCALARS.map(lambda item: f"{{tests: {item}}}"),
    ),
)
def test_what_reading_accepts_is_valid(field: tuple[str, str], value: str) -> None:
    section, name = field
    text = f"{section}: {{{name}: {value}}}" if section else f"{name}: {value}"
    if is_fine("pipeline", text):
        VALIDATORS["pipeline"].validate(yaml.safe_load(text))
