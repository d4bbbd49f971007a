"""The judge as a whole: which call goes where, and what stands in its way."""

from __future__ import annotations

import asyncio

from . import admin
from .anthropic_shape import AnthropicShape
from .call import BadCallError, Call
from .chat import Chat
from .clock import Clock
from .episodes import Episodes
from .http import Answer, Connection, Request
from .openai_shape import OpenAIShape
from .quota import Quota, Rejected
from .settings import Episode, Settings
from .shape import Shape, api_key, parsed, rejection_text

SHAPES: dict[str, Shape] = {"/v1/chat/completions": OpenAIShape(), "/v1/messages": AnthropicShape()}


class Judge:
    """Answers calls and keeps the accounts; one per process."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        self.quotas = {key: Quota(limits, settings) for key, limits in settings.keys.items()}
        self.episodes = Episodes(settings.episodes, settings.seed)
        self.connections: set[Connection] = set()
        self.started_ms = self.clock.ms()
        self.cut = 0
        self._names = 0

    async def serve(self, host: str, port: int) -> asyncio.Server:
        """Listen, and arm the outages of the settings. Port 0 takes a free one."""
        loop = asyncio.get_running_loop()
        for episode in self.settings.episodes:
            if episode.kind == "outage":
                loop.call_later(episode.start_s, self._cut_lines)
        return await loop.create_server(self._connection, host, port, backlog=4096)

    def begin(self, episode: Episode) -> None:
        """An episode starts now. Lines are cut a moment later, so that whoever asked for it gets the answer."""
        self.episodes.begin(episode.kind, self.seconds(), episode.seconds, episode.share)
        if episode.kind == "outage":
            asyncio.get_running_loop().call_soon(self._cut_lines)

    def seconds(self) -> float:
        return (self.clock.ms() - self.started_ms) / 1000

    def _connection(self) -> Connection:
        return Connection(self._handle, self._gate, self.connections)

    def _gate(self, request: Request) -> bool:
        reachable = request.path.startswith("/admin/") or not self.episodes.out(self.seconds())
        self.cut += not reachable
        return reachable

    def _cut_lines(self) -> None:
        """Calls under way are cut; idle connections are closed, so that answers that were complete still arrive."""
        for connection in list(self.connections):
            if connection.busy:
                self.cut += 1
                connection.reset()
            else:
                connection.close()

    async def _handle(self, request: Request, answer: Answer) -> None:
        path = request.path.partition("?")[0]
        shape = SHAPES.get(path)
        if path.startswith("/admin/"):
            admin.handle(self, request, answer)
        elif shape is None or request.method != "POST":
            answer.send(404, (), OpenAIShape().error(404, f"no such thing: {request.method} {path}"))
        else:
            await self._chat(shape, request, answer)

    async def _chat(self, shape: Shape, request: Request, answer: Answer) -> None:
        self._names += 1
        name = f"{self.started_ms:x}{self._names:06x}"
        head = [("x-request-id", name), ("request-id", name)]
        quota = self.quotas.get(api_key(request))
        if quota is None:
            answer.send(401, head, shape.error(401, "Incorrect API key provided."))
            return
        try:
            call = shape.read(request, parsed(request.body), self.settings)
        except BadCallError as error:
            quota.statuses[400] += 1
            answer.send(400, head, shape.error(400, str(error)))
            return
        if not self._stopped_by_episode(shape, quota, head, answer):
            await self._judge(shape, quota, call, name, head, answer)

    async def _judge(
        self, shape: Shape, quota: Quota, call: Call, name: str, head: list[tuple[str, str]], answer: Answer
    ) -> None:
        now = self.clock.ms()
        verdict = quota.admit(now, call.input_tokens, call.max_tokens, call.job)
        head += shape.limits(quota, now)
        if isinstance(verdict, Rejected):
            quota.statuses[429] += 1
            answer.send(429, head + _retry(verdict.retry_ms), shape.error(429, rejection_text(verdict)))
            return
        await Chat(shape, quota, verdict.number, call, name, head, answer).run(self.settings, self.clock)

    def _stopped_by_episode(self, shape: Shape, quota: Quota, head: list[tuple[str, str]], answer: Answer) -> bool:
        now_s = self.seconds()
        if self.episodes.hits("overload", now_s):
            status, text = shape.overloaded, "Overloaded"
        elif self.episodes.hits("errors", now_s):
            status, text = 500, "The server had an error while processing your request."
        else:
            return False
        quota.statuses[status] += 1
        answer.send(status, head, shape.error(status, text))
        return True


def _retry(retry_ms: int | None) -> list[tuple[str, str]]:
    """In whole seconds, as the standard has it, and exactly, in milliseconds, as OpenAI's SDK understands it."""
    if retry_ms is None:
        return []
    return [("retry-after", str(max(1, -(-retry_ms // 1000)))), ("retry-after-ms", str(retry_ms))]
