"""The hot path of reading: plain MSG frames, straight from the bytes to the handler.

nats-py's parser matches a regular expression, fills a dictionary and awaits two coroutines per message. Nearly all
that arrives at a service are MSG frames without headers, for subscriptions with a plain handler; those are cut out
here with ``find`` and ``split``, at half the cost. Everything else (headers, PING, INFO, errors, nats-py's own
subscriptions, anything odd) goes to nats-py's parser, in order: it takes over from the first frame that is not plain,
for the rest of what was read.

A frame that is cut off by the end of what was read waits here when it is short; long ones go to nats-py's parser,
which collects them without copying again and again.

A subject need not be UTF-8: the server lets an agent name any bytes as its reply subject. What is none is replaced.

A connection that has failed may still hand in what it had read. Its parser has been reset by then, perhaps in the
middle of a payload, and would take the rest of it, which an agent has written, for frames of the server. So nothing is
parsed between a `reset` and the next `begin`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

Frame = Callable[[int, str, str, bytes], bool]
"""Takes subscription number, subject, reply and payload; False when the subscription is not its own."""

LONGEST = 16_384
"""Bytes of an unfinished frame that are kept for the next read."""


class FastParser(Parser):
    """nats-py's parser with the short cut; ``frame`` is called for each plain frame and ``after`` after each
    read; they must not raise."""

    def __init__(self, nc: object, frame: Frame, after: Sequence[Callable[[], None]] = ()) -> None:
        self._left = b""
        self._frame = frame
        self._after = after
        self._parsing = False
        self._deaf = False
        super().__init__(nc)
        self.begin()

    def reset(self) -> None:
        super().reset()
        self._left = b""
        self._deaf = True

    def begin(self) -> None:
        """What comes now is of a new connection."""
        self._deaf = False

    async def parse(self, data: bytes = b"") -> None:
        if self._deaf:
            return
        self._parsing = True
        try:
            rest = self._take(data)
            if rest:
                await super().parse(rest)
        finally:
            self._parsing = False
        self._end_of_read()

    def take(self, data: bytes) -> bytes:
        """Handle what is plain as soon as it is read, without waiting for a turn of the loop; what is left is for
        `parse`, whose turn then comes before more may be taken."""
        if self._parsing or self._deaf:
            return data
        rest = self._take(data)
        self._end_of_read()
        return rest

    def _end_of_read(self) -> None:
        for hook in self._after:
            hook()

    def _take(self, data: bytes) -> bytes:
        if self.buf or self.state != AWAITING_CONTROL_LINE:
            return data
        if self._left:
            data, self._left = self._left + data, b""
        rest = self._plain_frames(data)
        if rest == len(data):
            return b""
        if len(data) - rest <= LONGEST and _is_unfinished(data, rest):
            self._left = data[rest:]
            return b""
        return data[rest:]

    def _plain_frames(self, data: bytes) -> int:
        """Deliver the plain frames at the beginning; where the first other thing begins."""
        frame = self._frame
        at = 0
        while data.startswith(b"MSG ", at):
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                break
            parts = data[at + 4 : line_end].decode("utf-8", "replace").split(" ")
            start = line_end + 2
            try:
                end = start + int(parts[-1])
                if not start <= end <= len(data) - 2:
                    break
                reply = parts[2] if len(parts) == 4 else ""
                if not frame(int(parts[1]), parts[0], reply, data[start:end]):
                    break
            except (ValueError, IndexError):
                break
            at = end + 2
        return at


def _is_unfinished(data: bytes, at: int) -> bool:
    """True when a plain frame begins there and its end is not there yet."""
    if not data.startswith(b"MSG ", at):
        return False
    line_end = data.find(b"\r\n", at)
    if line_end < 0:
        return True
    size = data[at:line_end].rpartition(b" ")[2]
    return size.isdigit() and len(data) < line_end + 2 + int(size) + 2
