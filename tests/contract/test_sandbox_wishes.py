from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmrt.contract.model import Mount, SandboxWishes
from fsmrt.contract.pipeline import read_pipeline
from fsmrt.contract.sandbox_wishes import parse_size, source_is_refused


def wishes(text: str) -> SandboxWishes:
    return read_pipeline(f"sandbox: {{{text}}}".encode()).raise_for_errors().sandbox


@pytest.mark.parametrize(
    ("text", "field", "expected"),
    [
        ("image: ' python:3.12 '", "image", "python:3.12"),
        ("build: ci/Dockerfile", "build", "ci/Dockerfile"),
        ("rootfs: /srv/rootfs", "rootfs", "/srv/rootfs"),
        ("network: None", "network", "none"),
        ("network: {rollout: model, tests: ~}", "network", {"rollout": "model"}),
        (
            "network: {deploy: none, deploy_setup: open}",
            "network",
            {"deploy_setup": "open", "deploy_health": "none", "deploy_teardown": "none"},
        ),
        ("memory: 4g", "memory", 4 * 2**30),
        ("memory: 512 MiB", "memory", 512 * 2**20),
        ("memory: 1048576", "memory", 2**20),
        ("memory: ''", "memory", None),
        ("disk: 1.5GB", "disk", 3 * 2**29),
        ("cpus: 1.5", "cpus", 1.5),
        ("cpus: 2", "cpus", 2.0),
        ("cpus: '0.5'", "cpus", 0.5),
        ("pids: 64", "pids", 64),
        ("gpus: ALL", "gpus", "all"),
        ("gpus: 2", "gpus", 2),
        ("gpus: '2'", "gpus", 2),
        ("gpus: 0", "gpus", None),
        ("gpus: [0, GPU-1]", "gpus", ("0", "GPU-1")),
        ("user: caller", "user", "caller"),
        ("user: IMAGE", "user", "image"),
        ("user: '0:0'", "user", "0:0"),
        ("user: 1000:50", "user", "1000:50"),
        ("mounts: [{source: /data, target: /d}]", "mounts", (Mount(source="/data", target="/d"),)),
        (
            "mounts: [{source: a, target: /d, mode: RW}]",
            "mounts",
            (Mount(source="a", target="/d", mode="rw"),),
        ),
        ("", "network", "open"),
    ],
)
def test_values(text: str, field: str, expected: Any) -> None:
    assert getattr(wishes(text), field) == expected


@pytest.mark.parametrize(
    ("text", "code", "path"),
    [
        ("image: [a]", "not_a_string", "$.sandbox.image"),
        ("build: ../Dockerfile", "path_outside_repo", "$.sandbox.build"),
        ("image: a, build: b", "conflicting_keys", "$.sandbox.build"),
        ("network: closed", "not_in_choices", "$.sandbox.network"),
        ("network: [open]", "not_in_choices", "$.sandbox.network"),
        ("network: {tests: closed}", "not_in_choices", "$.sandbox.network.tests"),
        ("memory: 4x", "not_a_size", "$.sandbox.memory"),
        ("memory: true", "not_a_size", "$.sandbox.memory"),
        ("memory: 1.5", "not_a_size", "$.sandbox.memory"),
        ("memory: [1]", "not_a_size", "$.sandbox.memory"),
        ("memory: 0", "out_of_range", "$.sandbox.memory"),
        ("disk: -1", "out_of_range", "$.sandbox.disk"),
        ("disk: 99999999999999t", "out_of_range", "$.sandbox.disk"),
        ("cpus: many", "not_a_number", "$.sandbox.cpus"),
        ("cpus: .nan", "not_a_number", "$.sandbox.cpus"),
        ("cpus: 0", "out_of_range", "$.sandbox.cpus"),
        ("pids: 0", "out_of_range", "$.sandbox.pids"),
        ("gpus: some", "not_in_choices", "$.sandbox.gpus"),
        ("gpus: -1", "out_of_range", "$.sandbox.gpus"),
        ("gpus: 1.5", "not_an_integer", "$.sandbox.gpus"),
        ("gpus: ['']", "not_a_string", "$.sandbox.gpus[0]"),
        ("user: root", "not_in_choices", "$.sandbox.user"),
        ("user: 1000", "not_in_choices", "$.sandbox.user"),
        ("user: [1]", "not_in_choices", "$.sandbox.user"),
        ("user: '4294967295:1'", "not_in_choices", "$.sandbox.user"),
        ("mounts: /data", "not_a_list", "$.sandbox.mounts"),
        ("mounts: [/data]", "not_a_mapping", "$.sandbox.mounts[0]"),
        ("mounts: [~]", "not_a_mapping", "$.sandbox.mounts[0]"),
        ("mounts: [{source: /data}]", "not_a_string", "$.sandbox.mounts[0]"),
        ("mounts: [{source: ' ', target: /d}]", "not_a_string", "$.sandbox.mounts[0].source"),
        ("mounts: [{source: ../x, target: /d}]", "path_outside_repo", "$.sandbox.mounts[0].source"),
        ("mounts: [{source: ~/x, target: /d}]", "path_outside_repo", "$.sandbox.mounts[0].source"),
        ("mounts: [{source: /etc, target: /d}]", "mount_refused", "$.sandbox.mounts[0].source"),
        ("mounts: [{source: /data, target: d}]", "mount_refused", "$.sandbox.mounts[0].target"),
        ("mounts: [{source: /data, target: /proc/x}]", "mount_refused", "$.sandbox.mounts[0].target"),
        ("mounts: [{source: /data, target: /d, mode: rx}]", "not_in_choices", "$.sandbox.mounts[0].mode"),
    ],
)
def test_errors(text: str, code: str, path: str) -> None:
    (found,) = read_pipeline(f"sandbox: {{{text}}}".encode()).errors
    assert (found.code, found.path) == (code, path)


def test_an_unknown_stage_is_named() -> None:
    (found,) = read_pipeline(b"sandbox: {network: {evalution: none}}").problems
    assert (found.level, found.code) == ("strict", "unknown_key")
    assert "did you mean evaluation?" in found.message


@pytest.mark.parametrize(
    "source",
    [
        "/",
        "//",
        "/.",
        "/home",
        "/data/..",
        "/data/../etc/ssl",
        "/usr/local",
        "/proc/1",
        "/var/run",
        "/var/run/docker.sock",
        "/home/me/podman.sock",
        "engine/docker.sock",
        "/var/lib/docker/volumes",
    ],
)
def test_the_machine_is_not_handed_out(source: str) -> None:
    assert source_is_refused(source)


@pytest.mark.parametrize(
    "source", ["/data", "/home/me/sets", "/etcetera", "/var/lib/sets", "sub/etc", "/mnt/usr"]
)
def test_data_may_be_mounted(source: str) -> None:
    assert not source_is_refused(source)


@given(
    st.integers(0, 2**40),
    st.sampled_from(["", "k", "m", "g", "t"]),
    st.sampled_from(["", "b", "ib"]),
    st.booleans(),
)
def test_sizes_are_exact(number: int, unit: str, tail: str, upper: bool) -> None:
    text = f"{number}{unit}{tail}"
    assert parse_size(text.upper() if upper else text) == number * 1024 ** ["", "k", "m", "g", "t"].index(
        unit
    )


@given(st.text(max_size=30))
def test_any_text_is_a_size_or_not(text: str) -> None:
    size = parse_size(text)
    assert size is None or size >= 0
