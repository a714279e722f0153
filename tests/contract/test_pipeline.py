from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmrt.contract.model import Pipeline
from fsmrt.contract.pipeline import read_pipeline
from fsmrt.contract.problems import Problem
from fsmrt.contract.reading import Reading, missing
from fsmrt.errors import ContractError

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.yml"))


def read(text: str) -> Reading[Pipeline]:
    return read_pipeline(dedent(text).encode())


def value(text: str) -> Pipeline:
    return read(text).raise_for_errors()


def problem(text: str) -> Problem:
    """The only problem of a text."""
    (only,) = read(text).problems
    return only


LIMITED = "security: {max_cmd_seconds: 9}\n"


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
def test_realistic_contracts_have_no_error(file: Path) -> None:
    reading = read_pipeline(file.read_bytes(), file.name)
    assert reading.value is not None
    assert {found.level for found in reading.problems} <= {"warning"}


def test_the_values_of_a_contract_with_anchors() -> None:
    pipeline = read_pipeline((Path(__file__).parent / "corpus/anchors.yml").read_bytes()).raise_for_errors()
    assert pipeline.security.mode == "system"
    assert pipeline.auth.cmds == ("gh auth status",)
    assert (pipeline.tests.timeout_seconds, pipeline.tests.retries) == (900, 1)
    assert pipeline.evaluation.env == {"PYTHON": "python3", "PYTHONUNBUFFERED": "1", "SEED": "7"}
    assert pipeline.evaluation.run_cmds == ("make evaluate",)
    assert pipeline.rollout.run_cmds[0].startswith("python -m agent --tasks")
    assert pipeline.sandbox.gpus == ("0", "GPU-8a56")


def test_the_values_of_a_loosely_written_contract() -> None:
    pipeline = read_pipeline((Path(__file__).parent / "corpus/loose.yml").read_bytes()).raise_for_errors()
    assert pipeline.tests.env == {"A": "1", "B": "True", "C": ""}
    assert (pipeline.tests.cmds, pipeline.tests.workdir, pipeline.tests.timeout_seconds) == ((), None, 60)
    assert pipeline.deploy.setup_cmds == ("kind create cluster",)
    assert pipeline.deploy.teardown_policy == "on_success"
    assert pipeline.deploy.timeout_seconds is None
    assert pipeline.deploy.kubectl_dump.namespace == "007"
    assert pipeline.deploy.kubectl_dump.include_logs
    assert pipeline.artifacts.out_dir == "2024"


def test_everything_at_once_in_file_order() -> None:
    reading = read(
        """\
        version: 2
        tests:
          cmd: x
          timout_seconds: 3
          env: {X: true, X: no, FSMRT_RUN: a}
        security: [safe]
        evaluation:
          run_cmds:
            - make
            - true
          metrics_path: /tmp/x
          retries: -1
        deploy: {teardown_policy: sometimes, kubectl_dump: 3}
        """
    )
    assert reading.value is None
    assert [(found.line, found.column, found.code) for found in reading.problems] == [
        (1, 10, "unsupported_version"),
        (4, 3, "unknown_key"),
        (5, 18, "duplicate_key"),
        (5, 21, "unquoted_boolean_env"),
        (5, 25, "env_forced_name"),
        (6, 11, "not_a_mapping"),
        (10, 7, "not_a_string_list"),
        (11, 17, "path_outside_repo"),
        (12, 12, "out_of_range"),
        (13, 27, "not_in_choices"),
        (13, 52, "not_a_mapping"),
    ]


def test_the_line_of_a_problem() -> None:
    found = read("evaluation:\n  run_cmds:\n  - make\n  - true\n  timeout_seconds: 9").problems[0]
    assert str(found).startswith(
        "pipeline.yml:4:5: error not_a_string_list: $.evaluation.run_cmds[1]: "
        "must be a non-empty string, found the boolean true"
    )


@pytest.mark.parametrize(
    ("text", "code", "path", "sentence"),
    [
        ("[]", "not_a_mapping", "$", "pipeline must be a YAML mapping (dict) at the top level"),
        ("~", "not_a_mapping", "$", "pipeline must be a YAML mapping (dict) at the top level"),
        ("# only", "file_empty", "$", "pipeline file is empty: pipeline.yml"),
        ("version: 3", "unsupported_version", "$.version", "unsupported pipeline version: 3"),
        ("version: 1.9", "unsupported_version", "$.version", "unsupported pipeline version: 1.9"),
        ("version: true", "unsupported_version", "$.version", "unsupported pipeline version: true"),
        ("version: []", "unsupported_version", "$.version", "unsupported pipeline version: an empty list"),
        ("auth: x", "not_a_mapping", "$.auth", "pipeline.auth must be a mapping"),
        ("tests: {env: x}", "not_a_mapping", "$.tests.env", "pipeline.tests.env must be a mapping"),
        (
            "deploy: {kubectl_dump: x}",
            "not_a_mapping",
            "$.deploy.kubectl_dump",
            "pipeline.deploy.kubectl_dump must be a mapping",
        ),
        (
            "tests: {cmds: x}",
            "not_a_string_list",
            "$.tests.cmds",
            "pipeline field cmds must be a list of non-empty strings",
        ),
        (
            "rollout: {run_cmds: [' ']}",
            "not_a_string_list",
            "$.rollout.run_cmds[0]",
            "pipeline field run_cmds must be a list of non-empty strings",
        ),
        (
            "rollout: {run_cmds: [{echo a: b}]}",
            "not_a_string_list",
            "$.rollout.run_cmds[0]",
            "must be a non-empty string, found a mapping",
        ),
        ("tests: {cmd: ''}", "not_a_string", "$.tests.cmd", "pipeline field cmd must be a non-empty string"),
        ("tests: {cmd: 3}", "not_a_string", "$.tests.cmd", "pipeline field cmd must be a non-empty string"),
        (
            "auth: {steps: [3]}",
            "not_a_string_list",
            "$.auth.steps[0]",
            "pipeline.auth.steps must be a list of non-empty strings",
        ),
        (
            "security: {mode: fast}",
            "not_in_choices",
            "$.security.mode",
            "pipeline.security.mode must be one of: safe, system",
        ),
        (
            "deploy: {teardown_policy: no}",
            "not_in_choices",
            "$.deploy.teardown_policy",
            "pipeline.deploy.teardown_policy must be one of: always, on_success, on_failure, never",
        ),
        (
            "security: {denylist: x}",
            "not_a_string_list",
            "$.security.denylist",
            "security.denylist must be a list of strings",
        ),
        (
            "benchmark: {required_keys: [ok, 3]}",
            "not_a_string_list",
            "$.benchmark.required_keys[1]",
            "pipeline.benchmark.required_keys must be a list of strings",
        ),
        (
            "security: {allowlist: ['', 'a(b']}",
            "invalid_regex",
            "$.security.allowlist[1]",
            "unterminated subpattern at position 1",
        ),
        (
            "security: {allowlist: ['a{99999999999}']}",
            "invalid_regex",
            "$.security.allowlist[0]",
            "too large",
        ),
        ("security: {allowlist: ['[[a]']}", "invalid_regex", "$.security.allowlist[0]", "nested set"),
        ("tests: {timeout_seconds: true}", "not_an_integer", "$.tests.timeout_seconds", "the boolean true"),
        ("tests: {timeout_seconds: 1.5}", "not_an_integer", "$.tests.timeout_seconds", "the number 1.5"),
        ("tests: {timeout_seconds: .inf}", "not_an_integer", "$.tests.timeout_seconds", "the number .inf"),
        ("tests: {timeout_seconds: 10m}", "not_an_integer", "$.tests.timeout_seconds", 'the text "10m"'),
        ("tests: {timeout_seconds: [1]}", "not_an_integer", "$.tests.timeout_seconds", "a list"),
        ("tests: {timeout_seconds: -1}", "out_of_range", "$.tests.timeout_seconds", "at least 1"),
        ("tests: {timeout_seconds: 9999999999}", "out_of_range", "$.tests.timeout_seconds", "at most"),
        ("tests: {retries: -1}", "out_of_range", "$.tests.retries", "at least 0"),
        ("auth: {interactive: 2}", "not_a_boolean", "$.auth.interactive", "the number 2"),
        ("auth: {interactive: [on]}", "not_a_boolean", "$.auth.interactive", "a list"),
        (
            "artifacts: {out_dir: [a]}",
            "not_a_string",
            "$.artifacts.out_dir",
            "must be a string, found a list",
        ),
        ("artifacts: {out_dir: true}", "not_a_string", "$.artifacts.out_dir", "the boolean true"),
        ("artifacts: {out_dir: ../a}", "path_outside_repo", "$.artifacts.out_dir", "inside the repository"),
        (
            "artifacts: {out_dir: a/../../b}",
            "path_outside_repo",
            "$.artifacts.out_dir",
            "inside the repository",
        ),
        ("artifacts: {out_dir: ~/a}", "path_outside_repo", "$.artifacts.out_dir", "inside the repository"),
        ("tests: {workdir: /srv}", "path_outside_repo", "$.tests.workdir", "inside the repository"),
        ('tests: {cmd: "a\\0"}', "nul_byte", "$.tests.cmd", "NUL"),
        ('rollout: {run_cmds: ["a\\0"]}', "nul_byte", "$.rollout.run_cmds[0]", "NUL"),
        ('tests: {workdir: "a\\0"}', "nul_byte", "$.tests.workdir", "NUL"),
        ('tests: {env: {A: "b\\0"}}', "nul_byte", "$.tests.env.A", "NUL"),
        ('tests: {env: {"A\\0": b}}', "nul_byte", '$.tests.env["A\\u0000"]', "NUL"),
        ("tests: {env: {A=B: c}}", "nul_byte", '$.tests.env["A=B"]', "="),
        ("tests: {env: {A: 2024-13-45}}", "not_a_string", "$.tests.env.A", "month must be in 1..12"),
        ("tests: {<<: 3}", "yaml_syntax", "$.tests['<<']", "mapping or a list of mappings"),
    ],
)
def test_errors(text: str, code: str, path: str, sentence: str) -> None:
    reading = read(text)
    (found,) = reading.errors
    assert (found.code, found.path) == (code, path)
    assert sentence in found.message
    assert reading.value is None


@pytest.mark.parametrize(
    ("text", "code", "path", "part"),
    [
        ("test: {}", "unknown_key", "$.test", "did you mean tests?"),
        ("tests: {timeout_sec: 3}", "unknown_key", "$.tests.timeout_sec", "pipeline.tests has no such key"),
        ("tests: {true: 3}", "unknown_key", "$.tests.true", "no such key"),
        ("tooling: {tools: 3}", "unknown_key", "$.tooling.tools", "no such key"),
        (
            "deploy: {kubectl_dump: {name-space: x}}",
            "unknown_key",
            '$.deploy.kubectl_dump["name-space"]',
            "namespace",
        ),
        ("tests: {}\ntests: {retries: 1}", "duplicate_key", "$.tests", "line 1"),
        (LIMITED + "tests: {cmd: a, cmds: [b]}", "alias_ignored", "$.tests.cmd", "cmds"),
        ("tests: {cmd: a, cmds: []}", "alias_ignored", "$.tests.cmd", "cmds"),
        (LIMITED + "auth: {steps: [3], cmd: a}", "alias_ignored", "$.auth.steps", "cmd is given"),
        ("tests: {env: {A: [1, b]}}", "env_value_not_scalar", "$.tests.env.A", "[1, 'b']"),
        ("tests: {env: {AIDER_FSM_STAGE: x}}", "env_forced_name", "$.tests.env.AIDER_FSM_STAGE", "runner"),
    ],
)
def test_strict_problems_leave_a_value(text: str, code: str, path: str, part: str) -> None:
    found = problem(text)
    assert (found.level, found.code, found.path) == ("strict", code, path)
    assert part in found.message
    assert found.suggestion
    assert read(text).value is not None


@pytest.mark.parametrize(
    ("text", "code", "path"),
    [
        ('tests: {retries: "3"}', "coerced_value", "$.tests.retries"),
        ("tests: {retries: 3.0}", "coerced_value", "$.tests.retries"),
        ("artifacts: {out_dir: 3}", "coerced_value", "$.artifacts.out_dir"),
        ("tests: {env: {A: 010}}", "coerced_value", "$.tests.env.A"),
        ('version: "1"', "coerced_value", "$.version"),
        ("tests: {env: {A: true}}", "unquoted_boolean_env", "$.tests.env.A"),
        ("tooling: {ensure_tools: [a]}", "deprecated_key", "$.tooling.ensure_tools"),
        ("evaluation: {metrics_path: a}", "metrics_without_commands", "$.evaluation.metrics_path"),
        ("benchmark: {<<: {metrics_path: a}}", "metrics_without_commands", "$.benchmark.metrics_path"),
        ("tests: {cmd: a}", "commands_without_limit", "$"),
        ("auth: {interactive: true}", "interactive_needs_guided", "$.auth.interactive"),
        ("auth: {<<: {interactive: true}}", "interactive_needs_guided", "$.auth.interactive"),
    ],
)
def test_warnings(text: str, code: str, path: str) -> None:
    found = problem(text)
    assert (found.level, found.code, found.path) == ("warning", code, path)
    assert found.suggestion


@pytest.mark.parametrize(
    "text",
    [
        "version: 0",
        "version: 1",
        "version: ~",
        "{}",
        "tests: ~",
        "x-mine: {any: [thing]}\ntests: {x-too: 1}",
        "tests: {timeout_seconds: 0, cmds: ~}",
        "tests: {timeout_seconds: ''}",
        "tests: {cmd: a, timeout_seconds: 1}",
        "tests: {cmd: a, env: {AIDER_FSM_MAX_CMD_SECONDS: '5'}}",
        "tests: {cmd: =, timeout_seconds: 0x1F}",
        "tests: {env: {~: a, ' ': b, A: ~, 3: c}}",
        "security: {allowlist: ['', '^make ']}",
        "security: {mode: ''}",
        LIMITED + "auth: {cmds: [], steps: [a]}",
    ],
)
def test_nothing_to_remark(text: str) -> None:
    assert read(text).problems == ()


def test_a_list_wins_over_its_alias_even_when_empty() -> None:
    assert value("tests: {cmd: a, cmds: []}").tests.cmds == ()
    assert value("tests: {cmd: a, cmds: ~}").tests.cmds == ("a",)
    assert value("auth: {cmds: [], cmd: a, steps: [b]}").auth.cmds == ("b",)


def test_the_last_duplicate_counts() -> None:
    assert value("tests: {retries: 1, retries: 2}").tests.retries == 2


def test_environment_values_are_the_python_text_of_what_yaml_reads() -> None:
    env = value("tests: {env: {A: 010, B: on, C: ~, D: 1.10, 5: [x], ' E ': ' e '}}").tests.env
    assert env == {"A": "8", "B": "True", "C": "", "D": "1.1", "5": "['x']", "E": " e "}


def test_commands_and_patterns_are_kept_as_written() -> None:
    pipeline = value(
        "{tests: {cmds: [' a  ']}, security: {allowlist: [' x ']}, evaluation: {required_keys: [' k ', '']}}"
    )
    assert pipeline.tests.cmds == (" a  ",)
    assert pipeline.security.allowlist == (" x ",)
    assert pipeline.evaluation.required_keys == ("k",)


@pytest.mark.parametrize(
    ("workdir", "allowed"),
    [
        ("/srv/repo", True),
        ("/srv/repo/sub", True),
        ("/srv/repo/../x", False),
        ("/srv/repository", False),
        ("//etc", False),
    ],
)
def test_an_absolute_workdir_may_lie_inside_the_repository(workdir: str, allowed: bool) -> None:
    text = f"tests: {{workdir: {workdir}}}\nartifacts: {{out_dir: /srv/repo}}"
    reading = read_pipeline(text.encode(), repo_root="/srv/repo")
    assert [found.path for found in reading.errors] == ["$.tests.workdir"] * (not allowed) + [
        "$.artifacts.out_dir"
    ]


def test_guided_runs_may_be_interactive() -> None:
    assert read_pipeline(b"auth: {interactive: true}", unattended="guided").problems == ()


def test_an_unreadable_file_is_reported_alone() -> None:
    found = problem("tests: [\nbogus: 1")
    assert (found.code, found.level, found.path) == ("yaml_syntax", "error", "$")


def test_a_tab_gets_advice() -> None:
    assert problem("tests:\n\tcmd: a").suggestion == "indent with spaces, not tabs"


def test_raising_carries_every_problem() -> None:
    reading = read("version: 2\ntests: {cmdz: 3}")
    with pytest.raises(ContractError, match="unsupported pipeline version: 2") as caught:
        reading.raise_for_errors()
    assert caught.value.problems == reading.problems
    assert len(reading.problems) == 2


def test_a_missing_file() -> None:
    found = missing("sub/pipeline.yml")
    assert (found.code, found.line, found.column) == ("file_missing", 0, 0)
    assert "pipeline file is empty: sub/pipeline.yml" in found.message
    assert "fsmrt init" in (found.suggestion or "")


KEYS = st.sampled_from(
    """
    version security auth tests deploy rollout evaluation benchmark artifacts tooling sandbox x-a << bogus
    mode allowlist max_cmd_seconds cmds cmd steps interactive timeout_seconds retries env workdir run_cmds
    run_cmd metrics_path required_keys out_dir kubectl_dump teardown_policy network memory cpus gpus user
    mounts source target
    """.split()  # noqa: SIM905
)
SCALARS = st.sampled_from(
    """
    ~ true no 0 1 -3 1.5 .nan 010 1:30 abc '' '30' ../x /etc ~/x 4g 2024-13-45 "a\\0" '(' << = safe all
    """.split()  # noqa: SIM905
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(st.tuples(KEYS, inner), max_size=4).map(
            lambda pairs: "{" + ", ".join(f"{key}: {item}" for key, item in pairs) + "}"
        ),
    ),
    max_leaves=12,
)
SECTIONS = st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=6)


def check_reading(reading: Reading[Pipeline]) -> None:
    places = [(found.line, found.column) for found in reading.problems]
    assert places == sorted(places)
    assert (reading.value is None) == bool(reading.errors)
    assert all(found.message and found.path.startswith("$") for found in reading.problems)


@given(SECTIONS)
def test_any_contract_is_read_or_its_problems_are(sections: list[tuple[str, str]]) -> None:
    check_reading(read_pipeline("\n".join(f"{key}: {item}" for key, item in sections).encode()))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_their_problems_are(data: bytes) -> None:
    check_reading(read_pipeline(data))


@given(SECTIONS, st.integers(0, 400))
def test_a_contract_cut_anywhere_is_no_surprise(sections: list[tuple[str, str]], cut: int) -> None:
    text = "\n".join(f"{key}: {item}" for key, item in sections)
    check_reading(read_pipeline(text.encode()[:cut]))
