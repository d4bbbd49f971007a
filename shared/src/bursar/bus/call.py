"""One request to a service, and the one answer that it gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from bursar.bus.base import Msg
from bursar.bus.codec import Encoding, decode, encode, encode_error, encoding_of
from bursar.errors import BursarError, ServiceError

if TYPE_CHECKING:
    from bursar.bus.micro import Endpoint

M = TypeVar("M", bound=BaseModel)


class AlreadyAnswered(ServiceError):
    """A program error: one call was answered twice. The caller got the first answer only."""

    def __init__(self) -> None:
        super().__init__("internal", "the call was answered before")


class Call:
    """One request that waits for its one answer."""

    __slots__ = ("_encoding", "_endpoint", "_reply", "data", "headers", "principal", "received_ns", "subject")

    def __init__(self, endpoint: Endpoint, msg: Msg, principal: str, received_ns: int) -> None:
        self._endpoint = endpoint
        self._reply = msg.reply
        self._encoding: Encoding | None = None
        self.subject = msg.subject
        self.principal = principal
        self.data = msg.data
        self.headers: Mapping[str, str] | None = msg.headers
        self.received_ns = received_ns

    @property
    def encoding(self) -> Encoding:
        """How the caller wrote, and wants to be answered."""
        if self._encoding is None:
            self._encoding = encoding_of(self.data)
        return self._encoding

    @property
    def is_open(self) -> bool:
        return self._reply != ""

    def decode(self, model: type[M]) -> M:
        """The request as ``model``; raises `CallerError`, which a handler may just let through."""
        body, self._encoding = decode(model, self.data, limits=self._endpoint.limits)
        return body

    def release(self) -> None:
        """Let go of what was read from the message: a call may wait in line for minutes, and thousands with it, each
        with all the white space that its caller has put into 64 KB."""
        if self._encoding is None:
            self._encoding = encoding_of(self.data)
        self.data, self.headers = b"", None

    def respond(self, payload: bytes) -> None:
        """Answer; raises `AlreadyAnswered`. An answer that cannot be sent is counted: the caller asks again."""
        if not payload:
            raise ServiceError("internal", "a reply must not be empty")
        self._endpoint.send(self, payload, None)

    def respond_value(self, value: Any) -> None:
        """Answer with a message or plain values in the caller's encoding."""
        self.respond(encode(value, self.encoding))

    def fail(self, error: BursarError) -> None:
        """Answer with an error; raises `AlreadyAnswered`."""
        payload, headers = encode_error(error, self.encoding)
        self._endpoint.send(self, payload, headers, error)

    def drop(self) -> None:
        """Never answer: the caller will time out and ask again (a deposed owner must stay silent)."""
        if self._reply:
            self._reply = ""
            self._endpoint.forget()
