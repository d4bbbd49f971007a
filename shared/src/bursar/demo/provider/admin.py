"""The judge's own pages: ``GET /admin/stats|series|log`` and ``POST /admin/episode``; they answer in an outage too."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from . import stats
from .call import BadCallError
from .http import Answer, Request
from .settings import Episode, Settings, SettingsError
from .shape import packed, parsed

if TYPE_CHECKING:
    from .app import Judge

_PAGES = {"/admin/stats": stats.counts, "/admin/series": stats.series, "/admin/log": stats.log}


def handle(judge: Judge, request: Request, answer: Answer) -> None:
    if request.method == "POST" and request.path == "/admin/episode":
        _begin_episode(judge, request, answer)
    elif request.method == "GET" and request.path in _PAGES:
        answer.send(200, (), packed(page(judge, request.path)))
    else:
        answer.send(404, (), packed({"error": f"no such thing: {request.method} {request.path}"}))


def page(judge: Judge, path: str) -> dict[str, Any]:
    """One page: times are in ms since the epoch by the judge's clock, episodes in seconds since its start."""
    make, now = _PAGES[path], judge.clock.ms()
    return {
        "now_ms": now,
        "started_ms": judge.started_ms,
        "window": judge.settings.window,
        "window_ms": judge.settings.window_ms,
        "cut_by_outage": judge.cut,
        "keys": {key: make(quota, now) for key, quota in judge.quotas.items()},
        "episodes": [asdict(episode) for episode in judge.episodes.known],
    }


def _begin_episode(judge: Judge, request: Request, answer: Answer) -> None:
    try:
        wanted = _episode(parsed(request.body))
    except (BadCallError, KeyError, TypeError, SettingsError) as error:
        answer.send(400, (), packed({"error": f"send kind, seconds and perhaps share: {error}"}))
        return
    judge.begin(wanted)
    answer.send(200, (), packed({"began_ms": judge.clock.ms()}))


def _episode(body: dict[str, Any]) -> Episode:
    episode = Episode(body["kind"], 0.0, float(body["seconds"]), float(body.get("share", 1.0)))
    Settings(keys={}, episodes=(episode,))
    return episode
