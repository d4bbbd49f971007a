"""An external scaler for KEDA over gRPC: how many workers a pool should have, as one metric with the target 1.

KEDA hands the metric to a HorizontalPodAutoscaler, which wants ``ceil(metric / 1)`` replicas: what the monitor has
decided. Every instance answers, a standby too: the numbers are durable and it reads them in the journal. Where nothing
is known the answer is an error, so that KEDA keeps the number that there is (or its own ``fallback``).

The protocol is in ``externalscaler.proto`` beside this file; its messages are made from `FIELDS`, without generated
code. A ScaledObject names the pool in its metadata (``pool: workers``), or by its own name. The port is off unless it
is set; it needs no password and tells numbers of workers: it is bound to the loopback unless you say otherwise.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc  # type: ignore[import-untyped]
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]

log = logging.getLogger("bursar.monitor")

PACKAGE: Final = "externalscaler"
FIELDS: Final[Mapping[str, Mapping[str, tuple[int, str]]]] = {
    "ScaledObjectRef": {"name": (1, "string"), "namespace": (2, "string"), "scalerMetadata": (3, "map")},
    "IsActiveResponse": {"result": (1, "bool")},
    "MetricSpec": {"metricName": (1, "string"), "targetSize": (2, "int64"), "targetSizeFloat": (3, "double")},
    "GetMetricSpecResponse": {"metricSpecs": (1, "repeated MetricSpec")},
    "GetMetricsRequest": {"scaledObjectRef": (1, "ScaledObjectRef"), "metricName": (2, "string")},
    "MetricValue": {"metricName": (1, "string"), "metricValue": (2, "int64"), "metricValueFloat": (3, "double")},
    "GetMetricsResponse": {"metricValues": (1, "repeated MetricValue")},
}
"""Message -> field -> (number, type), as in externalscaler.proto."""

THREADS: Final = 32
STREAMS: Final = 16
LOOK_SECONDS: Final = 0.5
POOL: Final = "pool"


def messages() -> dict[str, Any]:
    """The classes of the protocol's messages."""
    file = descriptor_pb2.FileDescriptorProto(name="externalscaler.proto", package=PACKAGE, syntax="proto3")
    for name, fields in FIELDS.items():
        made = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _field(made, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in FIELDS}


def _field(message: Any, name: str, number: int, kind: str) -> None:
    proto = descriptor_pb2.FieldDescriptorProto
    field = message.field.add(name=name, number=number, label=proto.LABEL_OPTIONAL)
    if kind == "map":
        entry = message.nested_type.add(name="ScalerMetadataEntry")
        entry.options.map_entry = True
        for key, of in (("key", 1), ("value", 2)):
            entry.field.add(name=key, number=of, label=proto.LABEL_OPTIONAL, type=proto.TYPE_STRING)
        field.label, field.type = proto.LABEL_REPEATED, proto.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{message.name}.ScalerMetadataEntry"
        return
    repeated, _, kind = kind.rpartition(" ")
    field.label = proto.LABEL_REPEATED if repeated else proto.LABEL_OPTIONAL
    if kind in FIELDS:
        field.type, field.type_name = proto.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = getattr(proto, f"TYPE_{kind.upper()}")


class Keda:
    """The scaler. Answers from threads of its own; `show` is called by the event loop."""

    def __init__(self) -> None:
        self._messages = messages()
        self._desired: Mapping[str, int] | None = None
        self._streams = threading.BoundedSemaphore(STREAMS)
        self._is_over = threading.Event()
        self._server: Any = None
        self.port = 0

    def show(self, desired: Mapping[str, int] | None) -> None:
        """How many workers each pool should have; None: this instance does not know."""
        self._desired = desired

    def start(self, host: str, port: int) -> bool:
        """Serve; whether the port could be had. Port 0: any that is free."""
        self._server = grpc.server(ThreadPoolExecutor(THREADS, "keda"), maximum_concurrent_rpcs=THREADS)
        self._server.add_generic_rpc_handlers((self._handlers(),))
        try:
            self.port = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError:
            self.port = 0
        if not self.port:
            log.error("keda_off", extra={"host": host, "port": port})
            return False
        self._server.start()
        log.info("keda_ready", extra={"address": f"{host}:{self.port}", "port": self.port})
        return True

    def close(self) -> None:
        self._is_over.set()
        if self._server is not None:
            self._server.stop(grace=1.0)

    def _handlers(self) -> Any:
        reference, request = self._messages["ScaledObjectRef"], self._messages["GetMetricsRequest"]

        def unary(call: Callable[[Any, Any], Any], asked: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(call, asked.FromString, _pack)

        stream = grpc.unary_stream_rpc_method_handler(self._stream_is_active, reference.FromString, _pack)
        methods = {
            "IsActive": unary(self._is_active, reference),
            "StreamIsActive": stream,
            "GetMetricSpec": unary(self._metric_spec, reference),
            "GetMetrics": unary(self._metrics, request),
        }
        return grpc.method_handlers_generic_handler(f"{PACKAGE}.ExternalScaler", methods)

    def _is_active(self, reference: Any, context: Any) -> Any:
        return self._messages["IsActiveResponse"](result=self._number(reference, context) > 0)

    def _metric_spec(self, reference: Any, context: Any) -> Any:
        spec = self._messages["MetricSpec"](metricName=metric_name(reference), targetSize=1, targetSizeFloat=1.0)
        return self._messages["GetMetricSpecResponse"](metricSpecs=[spec])

    def _metrics(self, request: Any, context: Any) -> Any:
        number = self._number(request.scaledObjectRef, context)
        name = request.metricName or metric_name(request.scaledObjectRef)
        value = self._messages["MetricValue"](metricName=name, metricValue=number, metricValueFloat=float(number))
        return self._messages["GetMetricsResponse"](metricValues=[value])

    def _stream_is_active(self, reference: Any, context: Any) -> Iterator[Any]:
        """At once, and whenever it changes."""
        if not self._streams.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"there are {STREAMS} streams")
        try:
            told: bool | None = None
            while context.is_active() and not self._is_over.is_set():
                desired = (self._desired or {}).get(pool_of(reference))
                if desired is not None and (desired > 0) is not told:
                    told = desired > 0
                    yield self._messages["IsActiveResponse"](result=told)
                self._is_over.wait(LOOK_SECONDS)
        finally:
            self._streams.release()

    def _number(self, reference: Any, context: Any) -> int:
        """How many workers its pool should have; ends the call when that is not known."""
        desired, pool = self._desired, pool_of(reference)
        if desired is None:
            context.abort(grpc.StatusCode.UNAVAILABLE, "this instance has not read the journal")
            raise AssertionError
        if pool not in desired:
            context.abort(grpc.StatusCode.NOT_FOUND, f"nothing was decided for a pool {pool!r}")
        return desired[pool]


def pool_of(reference: Any) -> str:
    return str(reference.scalerMetadata.get(POOL, "") or reference.name)


def metric_name(reference: Any) -> str:
    return f"bursar-{pool_of(reference)}"


def _pack(message: Any) -> bytes:
    packed: bytes = message.SerializeToString()
    return packed
