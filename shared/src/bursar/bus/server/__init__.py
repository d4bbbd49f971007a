"""The embedded nats-server and the streams on it."""

from bursar.bus.server.binary import ServerError, find_binary
from bursar.bus.server.cluster import NatsCluster
from bursar.bus.server.config import ServerOptions
from bursar.bus.server.lock import StoreInUse, StoreLock
from bursar.bus.server.process import NatsServer
from bursar.bus.server.provision import ProvisionError, StreamDrift, StreamSizes, provision

__all__ = [
    "NatsCluster",
    "NatsServer",
    "ProvisionError",
    "ServerError",
    "ServerOptions",
    "StoreInUse",
    "StoreLock",
    "StreamDrift",
    "StreamSizes",
    "find_binary",
    "provision",
]
