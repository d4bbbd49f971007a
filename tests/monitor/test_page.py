"""The page over HTTP: who may see it, what it sends, and that nothing in it comes from elsewhere."""

from __future__ import annotations

import http.client
import json
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.monitor_fleet import Fleet
from bursar_monitor.health import Health
from bursar_monitor.metrics import Exposition
from bursar_monitor.page import STATIC, STREAMS, Files, Page
from bursar_monitor.page_door import TOKEN_FILE, Door, token_of
from bursar_monitor.page_feed import Feed
from bursar_monitor.page_lines import Lines
from bursar_monitor.page_views import overview, table
from bursar_monitor.web import serve_http
from tests.monitor.test_metrics import Hand

TOKEN = "a-token-of-the-tests-alone"


class Served(NamedTuple):
    feed: Feed
    port: int
    fleet: Fleet
    clock: Hand


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    """A page of a small fleet."""
    clock, fleet = Hand(), Fleet(3)
    feed = Feed(clock)

    def paged(port: int) -> Page:
        return Page("m-1", Door(TOKEN, port), feed, None, Lines(clock))

    running = serve_http("127.0.0.1", 19_464, Exposition(Health(0), clock), paged)
    assert running is not None
    yield Served(feed, running.server_port, fleet, clock)
    feed.close()
    running.shutdown()
    running.server_close()


@pytest.fixture
def served(server: Served) -> Served:
    """With a new picture."""
    server.feed.show(server.fleet.tick())
    return server


def ask(served: Served, path: str, method: str = "GET", body: str = "", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=5)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body or None, sent)
    answer = connection.getresponse()
    found = Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    connection.close()
    return found


def known(served: Served, path: str, **headers: str) -> Answer:
    return ask(served, path, Authorization=f"Bearer {TOKEN}", **headers)


# ---- the door


@pytest.mark.parametrize("path", ["/", "/stream", "/panel/hosts", "/ask/gpus", "/static/x/main.js"])
def test_without_the_token_nothing_of_the_fleet_is_told(served: Served, path: str) -> None:
    """Neither without one, nor with a wrong one in the cookie or the header."""
    cookie = f"bursar-{served.port}"
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"{cookie}={TOKEN}x"}, {"Cookie": "x=y"}):
        answer = ask(served, path, **headers)
        assert answer.status in {401, 404}
        assert b"node-0001" not in answer.body


def test_the_token_is_taken_from_header_cookie_and_address(served: Served) -> None:
    """The address sets the cookie and is left at once, so that the token does not stay in it."""
    assert known(served, "/panel/hosts").status == 200
    entered = ask(served, f"/?token={TOKEN}")
    assert (entered.status, entered.headers["location"]) == (303, "/")
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert ask(served, "/", Cookie=cookie.partition(";")[0]).status == 200
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert ask(served, "/login", "POST", f"token={TOKEN}", **form).status == 303
    refused = ask(served, "/login", "POST", "token=wrong", **form)
    assert refused.status == 401
    assert b"not the token" in refused.body
    assert "set-cookie" not in refused.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9464", "127.0.0.1.evil.example", "", "localhost.", "[::2]"]
)
def test_another_name_of_this_machine_is_refused(served: Served, host: str) -> None:
    """DNS rebinding: the page of somebody else cannot read ours, whatever name it gives 127.0.0.1."""
    assert known(served, "/", Host=host).status == 403
    assert known(served, "/panel/hosts", Host=host).status == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:1", "[::1]", "[::1]:9464"])
def test_the_names_of_this_machine_are_let_in(served: Served, host: str) -> None:
    """With any port: it may be the end of a tunnel."""
    assert known(served, "/", Host=host).status == 200


def test_another_machine_is_refused() -> None:
    """Also with the token, wherever the port is bound."""
    door = Door(TOKEN, 1)
    here = {"HTTP_HOST": "127.0.0.1:1", "REMOTE_ADDR": "127.0.0.1"}
    assert door.is_here(here)
    assert door.is_here({**here, "REMOTE_ADDR": "::1"})
    for address in ("10.0.0.7", "", "nonsense"):
        assert not door.is_here({**here, "REMOTE_ADDR": address})


def test_another_site_is_refused_but_for_following_a_link(served: Served) -> None:
    """What browsers say of the site that asks."""
    for site in ("cross-site", "same-site"):
        assert known(served, "/panel/hosts", Sec_Fetch_Site=site, Sec_Fetch_Mode="cors").status == 403
        assert known(served, "/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate").status == 200
        browser = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
        assert ask(served, "/login", "POST", f"token={TOKEN}", **browser).status == 403


def test_the_token_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    """All instances find the same; who starts at the same time, too."""
    found: set[str] = set()
    threads = [threading.Thread(target=lambda: found.add(token_of(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1
    assert len(found.pop()) >= 40
    assert stat.S_IMODE((tmp_path / TOKEN_FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [TOKEN_FILE]
    assert token_of(tmp_path, "given-by-the-operator") == "given-by-the-operator"
    assert not token_of(None)


# ---- what it sends


def test_everything_is_sent_with_strict_headers(served: Served) -> None:
    """No inline script, no other host, no frame, nothing kept but files that never change."""
    build = Files().build
    for path in ("/", "/panel/hosts", f"/static/{build}/main.js", "/nothing"):
        headers = known(served, path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"]
        assert "access-control-allow-origin" not in headers


def test_files_name_no_other_host() -> None:
    """Nor do they hold inline scripts, styles or handlers, which the policy forbids."""
    for path in STATIC.iterdir():
        text = path.read_text()
        assert set(re.findall(r"""https?://[^"'\s]+|["'(=]//[^"']*""", text)) <= {"http://www.w3.org/2000/svg"}, path
        if path.suffix == ".html":
            assert "style=" not in text
            assert "onclick=" not in text
            assert "<script>" not in text


def test_a_section_is_a_table_that_is_not_sent_twice(served: Served) -> None:
    """With the tag of its picture: asked again for the same picture, it is not sent again."""
    answer = known(served, "/panel/hosts")
    told = json.loads(answer.body)["table"]
    rows = [dict(zip(told["columns"], row, strict=True)) for row in told["rows"]]
    assert [row["host"] for row in rows] == served.fleet.names
    assert all(row["age_ms"] == 0 for row in rows)
    again = known(served, "/panel/hosts", If_None_Match=answer.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    served.feed.show(served.fleet.tick())
    assert known(served, "/panel/hosts", If_None_Match=answer.headers["etag"]).status == 200
    assert known(served, "/panel/nonsense").status == 404


def test_a_picture_says_how_long_ago_it_was_drawn(served: Served) -> None:
    """Ages in it are as of that moment."""
    served.clock.now += 1_234
    assert json.loads(known(served, "/panel/hosts").body)["later_ms"] == 1_234


def test_an_instance_without_a_picture_says_so(served: Served) -> None:
    """A standby has none: that is no error, and nothing of before is shown."""
    served.feed.show(None)
    assert json.loads(known(served, "/panel/hosts").body)["table"] is None


def events(served: Served, count: int) -> Iterator[tuple[str, Any]]:
    """The first so many events of a stream."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=5)
    connection.request("GET", "/stream", headers={"Authorization": f"Bearer {TOKEN}"})
    answer = connection.getresponse()
    assert answer.getheader("content-type") == "text/event-stream"
    for _ in range(count):
        lines: dict[str, str] = {}
        while line := answer.readline().decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            lines[name] = value
        yield lines["event"], json.loads(lines["data"])
    answer.close()
    connection.close()


def test_a_stream_tells_the_past_the_present_and_what_comes(served: Served) -> None:
    """First what the curves show, then each picture as it is drawn; none at all is told, too."""
    heard = events(served, 4)
    name, hello = next(heard)
    assert (name, hello["instance"], hello["build"]) == ("hello", "m-1", Files().build)
    assert len(hello["history"]["points"][-1]) == len(hello["history"]["names"])
    _, first = next(heard)
    assert first["view"]["hosts"]["total"] == 3
    served.feed.show(served.fleet.tick(silent=served.fleet.names[:1]))
    _, second = next(heard)
    assert second["version"] > first["version"]
    served.feed.show(None)
    assert next(heard)[1]["view"] is None


def test_a_stream_without_news_says_that_it_is_alive(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an event of its own: comments in a stream are not heard by a page."""
    monkeypatch.setattr("bursar_monitor.page.BEAT_SECONDS", 0.01)
    assert [name for name, _ in events(served, 4)] == ["hello", "overview", "beat", "beat"]


def test_streams_are_bounded_and_give_their_place_back() -> None:
    """One more than there is room for is told to come again; when one has gone there is room."""
    page = Page("m-1", Door(TOKEN, 1), Feed(Hand()), None, Lines(Hand()))
    here = {"REQUEST_METHOD": "GET", "PATH_INFO": "/stream", "HTTP_HOST": "localhost", "REMOTE_ADDR": "127.0.0.1"}
    said: list[str] = []

    def come() -> Any:
        return page({**here, "HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}, lambda status, headers: said.append(status))

    streams = [come() for _ in range(STREAMS)]
    come()
    streams[0].close()
    streams[0].close()
    come()
    come()
    assert said == ["200 OK"] * STREAMS + ["503 Service Unavailable", "200 OK", "503 Service Unavailable"]


def test_what_changes_something_is_not_answered(served: Served) -> None:
    """The page shows: it has no verb that changes anything."""
    for method in ("POST", "PUT", "DELETE"):
        answer = ask(served, "/panel/hosts", method, Authorization=f"Bearer {TOKEN}")
        assert answer.status == 405


# ---- what it shows


def test_the_overview_counts_what_is_heard() -> None:
    """Medians and sums of hosts that are heard; who is silent is counted, and says nothing about now."""
    fleet = Fleet(5, quiet=True)
    fleet.tick()
    pictures = [fleet.tick(silent=fleet.names[:2], cpu=dict.fromkeys(fleet.names, 730)) for _ in range(8)]
    hosts = overview(pictures[-1])["hosts"]
    assert (hosts["total"], hosts["silent"], hosts["cpu_permille"]) == (5, 2, 730)
    drawn = fleet.tick()
    view = overview(drawn)
    assert view["hosts"]["silent"] == 0
    assert view["budgets"]["fullest_permille"] > 850
    assert view["circuits"] == {"total": 5, "open": 0, "half_open": 0, "ramping": 0, "closed": 5, "age_ms": 0}
    assert view["services"]["without_owner"] == []
    assert table(drawn, "no such section") is None


def test_the_cause_is_told_first_and_for_all_that_it_explains() -> None:
    """Not what follows from it; what is silenced or muted by another is counted, and not told."""
    alert = {"severity": "critical", "silenced": False, "inhibited": False, "incident": "1.1.1"}
    rows = (
        {**alert, "rule": "no-owner", "subject": "limiter"},
        {**alert, "rule": "circuit-open", "subject": "anthropic"},
        {**alert, "rule": "cpu-high", "subject": "a", "silenced": True},
        {**alert, "rule": "cpu-high", "subject": "b", "inhibited": True},
    )
    incident = {"incident": "1.1.1", "rule": "no-owner", "subject": "limiter", "text": "Nobody decides for limiter."}
    drawn = Fleet(1).tick()
    told = overview(drawn._replace(rows={**drawn.rows, "alerts": rows, "incidents": (incident,)}))["alerts"]
    assert (told["critical"], told["silenced"]) == (2, 2)
    assert [(row["subject"], row["explains"]) for row in told["first"]] == [("limiter", 1)]


def test_what_is_not_known_is_not_shown_as_nothing() -> None:
    """A fleet of which only the hosts are heard."""
    drawn = Fleet(1).tick()
    view = overview(drawn._replace(rows={"hosts": (), "budgets": (), "services": ()}, sources={}))
    assert view["hosts"]["cpu_permille"] is None
    assert view["hosts"]["memory_used_bytes"] is None
    assert view["tasks"]["waiting"] is None
    assert view["devices"]["total_bytes"] is None
    assert view["budgets"]["fullest"] is None
    assert view["services"]["requests"] is None
