from __future__ import annotations

import base64
import itertools
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fsmrt.errors import EvidenceError
from fsmrt.evidence.identity import canonical_json
from fsmrt.evidence.redaction import KEY_BYTES, MAX_HELD, Redactor, StreamRedactor, load_or_create_key

KEY = b"k" * KEY_BYTES
SECRET = "s3cr3t+/ä value=1"
PEM = b"-----BEGIN RSA PRIVATE KEY-----\nMIIEow==\nabcd\n-----END RSA PRIVATE KEY-----"
SHAPES = [
    ("aws_key", b"AKIAIOSFODNN7EXAMPLE"),
    ("google_key", b"AIza" + b"a1_-B" * 7),
    ("github_token", b"ghp_" + b"aB3" * 12),
    ("github_token", b"github_pat_" + b"aB_3" * 8),
    ("openai_key", b"sk-proj-" + b"aB3-" * 6),
    ("slack_token", b"xoxb-123456789012-abcdef"),
    ("stripe_key", b"sk_live_" + b"aB3d" * 5),
    ("stripe_key", b"rk_test_" + b"aB3d" * 5),
    ("jwt", b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"),
    ("pem", PEM),
]
NAMED = [
    ("bearer", b"Authorization: Bearer %s", b"abcdefghij0123456789"),
    ("url_password", b"git clone https://me:%s@host/x.git", b"hunter2"),
    ("query", b"GET /x?sig=%s&y=1", b"0123abcd"),
    ("query", b"GET /x?y=1&key=%s", b"0123abcd"),
    ("assignment", b"DB_PASSWORD=%s", b"hunter22"),
    ("assignment", b"api key: %s", b"abc123def"),
    ("assignment", b'{"client_secret": "%s"}', b"abc 123, def"),
    ("assignment", b'token = "%s"', b"with spaces too"),
    ("assignment", b"Access-Key := %s", b"abcdef"),
    ("assignment", b'say \\"apikey\\": \\"%s\\" now', b"abcdef"),
]


def redactor(**secrets: str | bytes) -> Redactor:
    return Redactor(secrets, key=KEY)


def through(stream: StreamRedactor, pieces: Iterator[bytes] | list[bytes]) -> bytes:
    return b"".join([stream.feed(piece) for piece in pieces]) + stream.finish()


def cut_at(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places)]


def appearances(value: bytes) -> list[bytes]:
    shown = [value, quote(value, safe="").encode(), quote(value, safe="").lower().encode() and value]
    shown += [base64.b64encode(b"x" * lead + value + b"yy") for lead in range(3)]
    shown += [base64.urlsafe_b64encode(b"x" * lead + value + b"yy") for lead in range(3)]
    return shown


@pytest.mark.parametrize(("rule", "value"), SHAPES)
def test_a_shape_is_replaced_whole(rule: str, value: bytes) -> None:
    redacted = redactor().bytes(b"before " + value + b" after\n")
    assert redacted.startswith(b"before <redacted:" + rule.encode() + b":")
    assert redacted.endswith(b"> after\n")
    assert value not in redacted
    assert redacted.count(b"<redacted:") == 1


@pytest.mark.parametrize(("rule", "text", "value"), NAMED)
def test_only_the_value_of_a_named_secret_goes(rule: str, text: bytes, value: bytes) -> None:
    before, after = text.split(b"%s")
    redacted = redactor().bytes(text.replace(b"%s", value))
    assert redacted.startswith(before + b"<redacted:" + rule.encode() + b":")
    assert redacted.endswith(b">" + after)


@pytest.mark.parametrize(
    "text",
    [
        b"task-runner disk-cache risk-aware-scheduling-of-everything\n",
        b"token: abc\n",
        b"tokens=1234567 max_tokens = 100000 keyboard=qwertyuiop monkey: banana1\n",
        b'{"token": 1234567, "secret": false}\n',
        b"https://host:8080/path@2x see http://[::1]:80/\n",
        b"commit 9fceb02d0ae598e95dc970b74767f19372d61af8\n",
        b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        b"XAKIAIOSFODNN7EXAMPLE eyJhbGciOiJIUzI1NiJ9 bearer of good news\n",
        b"\x00\xff\xfe binary \r\n",
    ],
)
def test_a_line_without_a_secret_is_the_same_object(text: bytes) -> None:
    assert redactor(API_TOKEN=SECRET).bytes(text) is text


@pytest.mark.parametrize("lead", [b"", b"a", b"ab", b"abc"])
def test_a_known_value_is_found_in_every_encoding(lead: bytes) -> None:
    value = SECRET.encode()
    shown = [
        lead + value,
        quote(SECRET, safe="").encode(),
        quote(SECRET, safe="").lower().encode(),
        quote(SECRET).encode(),
        json.dumps(SECRET).encode(),
        json.dumps(SECRET, ensure_ascii=False).encode(),
    ]
    for text in shown:
        assert b"<redacted:API_TOKEN:" in redactor(API_TOKEN=SECRET).bytes(b"x " + text + b" y")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode(lead + value + b"tail")
        redacted = redactor(API_TOKEN=SECRET).bytes(encoded)
        assert b"<redacted:API_TOKEN:" in redacted
        assert len(encoded) - len(redacted) + len(b"<redacted:API_TOKEN:00000000>") >= len(value) * 8 // 6 - 1


def test_equal_secrets_have_equal_placeholders_whatever_their_encoding() -> None:
    one = redactor(API_TOKEN=SECRET)
    raw, encoded = one.bytes(SECRET.encode()), one.bytes(json.dumps(SECRET)[1:-1].encode())
    assert raw == encoded
    assert one.bytes(b"api_key=abcdef\n").split(b"=")[1] == one.bytes(b"token=abcdef\n").split(b"=")[1]
    assert Redactor({"API_TOKEN": SECRET}, key=b"o" * KEY_BYTES).bytes(SECRET.encode()) != raw


def test_what_overlaps_is_one_placeholder_and_no_end_sticks_out() -> None:
    redacted = redactor(A="abcdef&ghijkl").bytes(b"token=xx-abcdef&ghijkl;")
    assert redacted.startswith(b"token=<redacted:assignment:")
    assert redacted.endswith(b">;")
    assert b"ghijkl" not in redacted


def test_a_short_value_is_noted_and_never_matched() -> None:
    short = redactor(PIN="12345")
    assert short.bytes(b"12345") == b"12345"
    assert short.summary()["notes"] == ["secret_too_short:PIN"]


@pytest.mark.parametrize(
    "argv",
    [["run", "--token", "x"], ["run", "--token=x"], ["run", "-v", "--db-password", "--x", "y"]],
)
def test_what_a_credential_flag_takes_goes_whatever_it_looks_like(argv: list[str]) -> None:
    redacted = redactor().argv(argv)
    assert "x" not in redacted
    assert "--x" not in redacted
    assert "<redacted:argv:" in " ".join(redacted)
    assert redacted[0] == "run"


def test_the_program_is_never_a_flag() -> None:
    assert redactor().argv(["--token", "visible"]) == ["--token", "visible"]


def test_json_is_redacted_in_keys_values_and_credential_members() -> None:
    redacted = redactor(API_TOKEN=SECRET).json(
        {
            "a": [SECRET, 1, None, True],
            SECRET: "x",
            "password": "abcdef",
            "token": 1234567,
            "n": {"token": "abc"},
        }
    )
    encoded = json.dumps(redacted)
    assert SECRET not in json.dumps(redacted, ensure_ascii=False)
    assert redacted["password"].startswith("<redacted:member:")
    assert (redacted["token"], redacted["n"]) == (1234567, {"token": "abc"})
    assert redactor(API_TOKEN=SECRET).json(redacted) == redacted
    assert redactor(API_TOKEN=SECRET).bytes(encoded.encode()) == encoded.encode()


json_values = st.recursive(
    st.none()
    | st.integers()
    | st.sampled_from([SECRET, "token=abcdefg", "token", "\nsk-" + "a" * 24, "plain"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "token", SECRET]), inner)
    ),
    max_leaves=8,
)


@given(json_values)
def test_json_that_was_redacted_holds_nothing_a_sweep_of_its_bytes_finds(value: object) -> None:
    one = redactor(API_TOKEN=SECRET)
    encoded = canonical_json(one.json(value))
    assert one.bytes(encoded) == encoded


def test_modes() -> None:
    text = SECRET.encode() + b" ghp_" + b"a" * 36
    assert SECRET.encode() in Redactor({"A": SECRET}, key=KEY, mode="shapes_only").bytes(text)
    assert b"ghp_" not in Redactor({"A": SECRET}, key=KEY, mode="shapes_only").bytes(text)
    off = Redactor({"A": SECRET}, key=KEY, mode="disabled_unsafe")
    assert off.bytes(text) is text
    assert through(off.stream("x"), [text]) == text
    assert off.argv(["x", "--token", "y"]) == ["x", "--token", "y"]


def test_the_summary_counts_and_names_no_value() -> None:
    one = redactor(API_TOKEN=SECRET)
    one.bytes(SECRET.encode(), "a.txt")
    one.text("sk-" + "a" * 24)
    summary = one.summary()
    assert summary["by_rule"] == {"API_TOKEN": 1, "openai_key": 1}
    assert summary["by_member"] == {"a.txt": 1}
    assert SECRET not in repr(summary) + repr(one)


values = st.binary(min_size=6, max_size=24)


@given(
    value=values,
    before=st.binary(max_size=20),
    after=st.binary(max_size=20),
    cuts=st.lists(st.integers(0, 200), max_size=6),
)
@example(value=b"\n\n\n\n\n\n\n", before=b"\n\n", after=b"\n", cuts=[3, 5])
@example(value=b"abcdefgh", before=b"token=", after=b"abcdefgh", cuts=[8, 16])
def test_no_chunking_lets_a_known_value_through(
    value: bytes, before: bytes, after: bytes, cuts: list[int]
) -> None:
    if value in b"<redacted:SECRET:0123456789abcdef>" or b"redacted" in value:
        return  # a value that is part of every placeholder cannot be told from one
    one = redactor(SECRET=value)
    for shown in (value, quote(value, safe="").encode(), base64.b64encode(value)):
        data = before + shown + after
        redacted = through(one.stream("s"), cut_at(data, cuts))
        assert shown not in redacted
        assert b"<redacted:" in redacted


def test_every_single_split_of_every_shape_and_value() -> None:
    one = redactor(SECRET=SECRET, LINES="first line\nsecond line\nthird")
    texts = [value for _, value in SHAPES] + [text.replace(b"%s", value) for _, text, value in NAMED]
    texts += [SECRET.encode(), b"first line\nsecond line\nthird"]
    for text in texts:
        data = b"a line\nand " + text + b" more\nlast"
        whole = one.bytes(data)
        assert whole != data
        for cut in range(len(data) + 1):
            assert through(one.stream("s"), [data[:cut], data[cut:]]) == whole
        assert through(one.stream("s"), [bytes([byte]) for byte in data]) == whole


@pytest.mark.parametrize("filler", [b"x", b"x ", b"\0", b"token ", b"eyJ-."])
def test_a_long_line_is_cut_nowhere_in_a_secret(filler: bytes) -> None:
    one = redactor(SECRET=SECRET)
    padding = (filler * 20_000)[:20_000]
    for rule, value in [*SHAPES[:-1], ("SECRET", SECRET.encode())]:
        data = padding + b" " + value + b" " + padding
        expected = b"<redacted:" + rule.encode() + b":"
        for cut in range(20_001, 20_001 + len(value), 5):
            redacted = through(one.stream("s"), [data[:cut], data[cut:]])
            assert expected in redacted
            assert value not in redacted


@given(
    st.lists(
        st.sampled_from([SECRET.encode(), b"token=", b"abcdefg", b"\n", b"<", b" ", *[v for _, v in SHAPES]])
    )
)
def test_redacting_twice_changes_nothing(parts: list[bytes]) -> None:
    one = redactor(API_TOKEN=SECRET)
    once = one.bytes(b"".join(parts))
    assert one.bytes(once) == once


def test_a_private_key_without_an_end_is_not_waited_for_for_ever() -> None:
    one = redactor()
    stream = one.stream("s")
    head, line = b"-----BEGIN PRIVATE KEY-----\n", b"QUJD" * 16 + b"\n"
    out = stream.feed(head)
    for _ in range(2 * MAX_HELD // len(line)):
        out += stream.feed(line)
        assert len(stream._held) <= MAX_HELD
    out += stream.finish() if out else b""
    assert out.startswith(b"<redacted:pem:")
    assert redactor().bytes(head + line).startswith(b"<redacted:pem:")


def test_a_value_learned_late_is_found_in_streams_that_run() -> None:
    one = redactor()
    stream = one.stream("s")
    assert stream.feed(b"first secret-value\n") == b"first secret-value\n"
    one.add("LATE", "secret-value")
    assert b"secret-value" not in stream.feed(b"then secret-value\n")


def test_a_value_longer_than_a_stream_holds_back_is_covered_in_pieces() -> None:
    value = os.urandom(100_000)
    out = through(redactor(BIG=value).stream("s"), cut_at(b"a" + value + b"b", list(range(0, 100_000, 4096))))
    assert not any(value[at : at + 64] in out for at in range(0, 100_000 - 64, 64))


def test_the_key_is_made_once_for_all(tmp_path: Path) -> None:
    keys: list[bytes] = []
    threads = [threading.Thread(target=lambda: keys.append(load_or_create_key(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert set(keys) == {load_or_create_key(tmp_path)}
    assert os.listdir(tmp_path) == ["redaction.key"]
    assert (tmp_path / "redaction.key").stat().st_mode & 0o777 == 0o600


def test_a_key_that_others_can_read_or_that_is_none_is_refused(tmp_path: Path) -> None:
    load_or_create_key(tmp_path)
    (tmp_path / "redaction.key").chmod(0o644)
    with pytest.raises(EvidenceError, match="readable by others"):
        load_or_create_key(tmp_path)
    (tmp_path / "redaction.key").chmod(0o600)
    (tmp_path / "redaction.key").write_bytes(b"short")
    with pytest.raises(EvidenceError, match="not a key"):
        load_or_create_key(tmp_path)
