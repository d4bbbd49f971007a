"""The external scaler, asked by a real gRPC client as KEDA asks it."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import bursar_monitor
from bursar_monitor.keda import FIELDS, PACKAGE, Keda

grpc: Any = import_module("grpc")

PROTO = Path(bursar_monitor.__file__).with_name("externalscaler.proto").read_text()


def text(number: int, value: str) -> bytes:
    """A string field as protobuf writes it."""
    return bytes((number << 3 | 2, len(value.encode()))) + value.encode()


def inner(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | 2, len(value))) + value


def reference(name: str = "deployment", **metadata: str) -> bytes:
    entries = b"".join(inner(3, text(1, key) + text(2, value)) for key, value in metadata.items())
    return text(1, name) + text(2, "default") + entries


class Client:
    """Writes and reads the bytes itself: it shares nothing with the server but the protocol."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def ask(self, method: str, payload: bytes) -> bytes:
        call = self.channel.unary_unary(f"/{PACKAGE}.ExternalScaler/{method}")
        answer: bytes = call(payload, timeout=20, wait_for_ready=True)
        return answer

    def stream(self, payload: bytes) -> Any:
        call = self.channel.unary_stream(f"/{PACKAGE}.ExternalScaler/StreamIsActive")
        return call(payload, timeout=30, wait_for_ready=True)


@pytest.fixture
def keda() -> Iterator[Keda]:
    server = Keda()
    assert server.start("127.0.0.1", 0)
    yield server
    server.close()


@pytest.fixture
def client(keda: Keda) -> Iterator[Client]:
    made = Client(keda.port)
    yield made
    made.channel.close()


def test_the_number_that_was_decided_is_the_metric_with_target_one(keda: Keda, client: Client) -> None:
    """Whatever bytes KEDA would send: the pool is named in the metadata, or it is the object's name."""
    keda.show({"workers": 37, "idle": 0})
    spec = client.ask("GetMetricSpec", reference(pool="workers"))
    one = struct.pack("<d", 1.0)
    assert spec == inner(1, text(1, "bursar-workers") + b"\x10\x01\x19" + one)
    asked = inner(1, reference(pool="workers")) + text(2, "bursar-workers")
    value = struct.pack("<d", 37.0)
    assert client.ask("GetMetrics", asked) == inner(1, text(1, "bursar-workers") + b"\x10\x25\x19" + value)
    assert client.ask("IsActive", reference("workers")) == b"\x08\x01"
    assert client.ask("IsActive", reference(pool="idle")) == b""


def test_what_is_not_known_is_an_error_so_that_the_number_stays(keda: Keda, client: Client) -> None:
    """Before the journal was read, and for a pool that there is not."""
    with pytest.raises(grpc.RpcError) as caught:
        client.ask("IsActive", reference(pool="workers"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    keda.show({})
    with pytest.raises(grpc.RpcError) as caught:
        client.ask("GetMetrics", inner(1, reference(pool="workers")))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_stream_tells_at_once_and_when_it_changes(keda: Keda, client: Client) -> None:
    """Push instead of polling: KEDA's external-push trigger."""
    keda.show({"workers": 5})
    answers = client.stream(reference(pool="workers"))
    assert next(answers) == b"\x08\x01"
    keda.show({"workers": 0})
    assert next(answers) == b""
    keda.show({"workers": 6})
    assert next(answers) == b"\x08\x01"
    answers.cancel()


def test_the_messages_are_those_of_the_protocol_file() -> None:
    """Names, numbers and types."""
    found = {
        name: {
            field: (int(number), "map" if kind.startswith("map") else kind)
            for kind, field, number in re.findall(r"^\s+((?:repeated )?[\w<>, ]+?) (\w+) = (\d+);", body, re.MULTILINE)
        }
        for name, body in re.findall(r"message (\w+) \{(.*?)\n\}", PROTO, re.DOTALL)
    }
    assert found == FIELDS


def test_a_port_that_is_taken_is_said_and_no_reason_to_fail() -> None:
    """The monitor goes on without it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert not Keda().start("127.0.0.1", taken.getsockname()[1])
