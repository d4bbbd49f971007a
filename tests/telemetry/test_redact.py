"""Secrets leave no log line; what only looks a little like one stays."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import pytest

from bursar.telemetry import redact
from bursar.telemetry.logs import JsonFormatter


@pytest.mark.parametrize(
    "name",
    ["token", "api_key", "API-KEY", "apikey", "authorization", "password", "x-api-key", "access_token", "client_secret",
     "private_key", "cookie", "seed", "creds", "jwt"],
)  # fmt: skip
def test_a_field_with_the_name_of_a_secret_is_not_told(name: str) -> None:
    """Whatever its value is made of, and however deep it lies."""
    assert redact.fields({name: "harmless"}) == {name: redact.GONE}
    assert redact.fields({"body": [{"headers": {name: b"bytes"}}]}) == {"body": [{"headers": {name: redact.GONE}}]}


@pytest.mark.parametrize(
    "secret",
    ["sk-proj-0123456789abcdef", "AKIAIOSFODNN7EXAMPLE", "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
     "eyJhbGciOiJFZDI1NTE5In0.eyJzdWIiOiJhIn0.c2lnbmF0dXJl",
     "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY",
     "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN\n-----END PRIVATE KEY-----"],
)  # fmt: skip
def test_a_text_that_looks_like_a_secret_is_not_told(secret: str) -> None:
    """Anywhere in a text; what stands around it stays."""
    found = redact.text(f"calling with {secret} failed")
    assert secret not in found
    assert found.startswith("calling with ")
    assert found.endswith(" failed")


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("Authorization: ApiKey abcdef123456", "Authorization: ApiKey #"),
        ("Authorization: abcdef", "Authorization: #"),
        ("Proxy-Authorization: Digest username=a, response=b", "Proxy-Authorization: Digest #"),
        ("{'Authorization': 'Bearer abc.def', 'X': 1}", "{'Authorization': 'Bearer #', 'X': 1}"),
        ("Set-Cookie: session=abcdefgh; Path=/", "Set-Cookie: #"),
        ("Basic dXNlcjpwYXNz", "Basic #"),
        ("x-api-key: 0123456789abcdef", "x-api-key: #"),
        ('{"apiKey": "abcdef", "n": 1}', '{"apiKey": #, "n": 1}'),
        ("export OPENAI_API_KEY=abcdef0123", "export OPENAI_API_KEY=#"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "aws_secret_access_key = #"),
        ("password: hunter2", "password: #"),
        ("passwd 'correct horse'", "passwd #"),
        ("GET /?access_token=abcdef&sig=a%2Bbcd&x=1", "GET /?access_token=#&sig=#&x=1"),
        ("GET /v1beta/models?key=AbCdEf", "GET /v1beta/models?key=#"),
        ("nats://atoken@host:4222", "nats://#@host:4222"),
        ("github_pat_11ABCDEFG0_abcdef", "#"),
        ("key_sk-abcdefghijklmnop", "key_#"),
        ("SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY.", "#."),
    ],
)
def test_a_name_that_stands_before_a_secret_gives_it_away(said: str, left: str) -> None:
    """As headers, JSON, arguments, query strings and variables write it; the name stays."""
    assert redact.text(said) == left.replace("#", redact.GONE)


@pytest.mark.parametrize("name", ["openaiApiKey", "accessToken", "authHeader", "x-amz-signature", "nkey"])
def test_names_are_known_in_every_spelling(name: str) -> None:
    """With humps, lines and dots; and what is a secret itself is no name to show."""
    assert redact.fields({name: "x"}) == {name: redact.GONE}
    assert redact.fields({"sk-abcdefghijklmnop": 1}) == {redact.GONE: 1}


@pytest.mark.parametrize(
    "said",
    ["max_tokens: 100 input_tokens=5500", "the token is stale, the key was not found", "password is needed",
     "monkey: banana12345", "skip-the-whole-thing", "risk-assessment-of-it-all", "basic understanding of things",
     "authorization is missing", "keyed by abcdefgh", "task s4f2-17 has fence 1.2.3.0123456789abcdef"],
)  # fmt: skip
def test_words_about_secrets_are_none(said: str) -> None:
    """A line that cannot be read helps nobody."""
    assert redact.text(said) == said


@pytest.mark.parametrize(
    "evil", ["a_", "a-", "key", "authorization", " ", "bearer ", "password:", "://", "passwd \"'", "eyJaaaaaaaa."]
)
def test_no_text_takes_long(evil: str) -> None:
    """Whoever can have a text logged must not keep the service busy: what would take seconds by the square of its
    length takes milliseconds."""
    began = time.process_time()
    redact.text(evil * (8_000 // len(evil)))
    assert time.process_time() - began < 0.5


def test_passwords_in_addresses_and_headers_are_not_told() -> None:
    """The rest of the address says where it went."""
    assert redact.text("nats://ann:geheim@host:4222/x") == f"nats://{redact.GONE}@host:4222/x"
    assert redact.text("Authorization: Bearer abcdef.ghijkl") == f"Authorization: Bearer {redact.GONE}"
    assert redact.text("GET /?token=abcdefgh&x=1") == f"GET /?token={redact.GONE}&x=1"


@pytest.mark.parametrize(
    "fields",
    [{"input_tokens": 800, "tokens": 3}, {"token": None}, {"code": "not_ready", "id": "s-17"}, {"fence": "1.1.7"},
     {"subject": "bursar.req.limiter.reserve.ann"}, {"url": "http://127.0.0.1:9464/metrics"}, {"keys": ["a", "b"]}],
)  # fmt: skip
def test_what_is_no_secret_stays(fields: dict[str, Any]) -> None:
    """Counts, codes, subjects, names."""
    assert redact.fields(fields) == fields


def test_values_are_bounded() -> None:
    """A long text is cut, a deep value ends, and a value of any kind becomes a text."""
    deep: Any = "end"
    for _ in range(50):
        deep = {"in": deep}
    found = redact.fields({"long": "x" * 100_000, "deep": deep, "many": list(range(1_000)), "other": object()})
    assert len(json.dumps(found)) < 4_000


def test_a_line_is_redacted_as_a_whole() -> None:
    """Its message, too, which is a name by the rules of the house, and may be anything from a library."""
    record = logging.makeLogRecord(
        {"msg": "failed with %s", "args": ("sk-abcdefghijklmnop",), "token": "t", "id": "a-1"}
    )
    line = json.loads(JsonFormatter("limiter", "l-1").format(record))
    assert (line["event"], line["token"], line["id"]) == (f"failed with {redact.GONE}", redact.GONE, "a-1")
