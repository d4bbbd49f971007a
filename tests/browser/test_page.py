"""The page in a real browser: works, lives, survives, can be read by everybody, and asks nobody else."""

from __future__ import annotations

import pytest

from bench.chromium import Chromium, Page, outside
from tests.browser.conftest import TOKEN, Site, violations

pytestmark = pytest.mark.browser

PANELS = ["alerts", "budgets", "circuits", "gpus", "scheduler", "hosts", "services", "cost"]
"""In this order; what the picture has beside comes after them, and the logs are the last."""


def text(page: Page, selector: str) -> str:
    found: str = page.value(f"document.querySelector({selector!r})?.innerText ?? ''")
    return found


def see(page: Page, panel: str) -> None:
    """Scroll there and wait for its numbers."""
    page.value(f"document.getElementById({panel!r}).scrollIntoView()")
    page.until(f"document.querySelector('#{panel} .panel-body').innerText.length > 20")


def choose(page: Page, selector: str, event: str, value: str) -> None:
    """Put a value into a field, as a person does."""
    field = f"document.querySelector({selector!r})"
    page.value(f"((field) => {{ field.value = {value!r}; field.{event}({{ currentTarget: field }}); }})({field})")


def test_the_whole_fleet_is_on_the_page(site: Site, page: Page) -> None:
    """Every panel has its numbers; nothing is said on the console, and nobody else is asked anything."""
    for panel in PANELS[1:]:
        see(page, panel)
    assert page.value("[...document.querySelectorAll('#panels > section')].map((one) => one.id)")[:8] == PANELS
    assert "All quiet" in text(page, "#headline")
    assert "anthropic" in text(page, "#budgets")
    assert "vector-db" in text(page, "#circuits")
    assert "NVIDIA L4" in text(page, "#gpus")
    assert "worker-3" in text(page, "#scheduler")
    assert "node-00" in text(page, "#hosts")
    assert "limiter-1" in text(page, "#services")
    assert "$250.00" in text(page, "#cost")
    assert page.problems == []
    assert outside(page.requests, site.origin) == []


def test_money_is_added_up_as_the_person_likes(site: Site, page: Page) -> None:
    """By agent, team, model or class; what was saved says against what."""
    see(page, "cost")
    assert "reader" in text(page, "#cost")
    button = "[...document.querySelectorAll('#cost .segmented button')].find((one) => one.innerText === 'team')"
    page.value(f"{button}.click()")
    page.until("document.querySelector('#cost tbody th').innerText === 'product'")
    assert "Against calls for summarise" in text(page, "#cost .savings")
    for _ in range(60):
        site.tick()
    see(page, "advice")
    page.until("document.querySelector('#advice .panel-body').innerText.includes('GPU memory')")
    see(page, "quotas")
    page.until("document.querySelector('#quotas').innerText.includes('agent.writer')")
    assert page.problems == []


def test_a_new_picture_is_shown_at_once(site: Site, page: Page) -> None:
    """Without a reload, in tiles and tables alike, while the person's focus stays where it is."""
    see(page, "hosts")
    page.value("document.querySelector('#hosts input').focus()")
    site.tick(cpu=dict.fromkeys(site.fleet.names, 421))
    page.until("document.querySelector('.tile-value').innerText === '42 %'")
    page.until("document.querySelector('#hosts tbody td:nth-of-type(2)').innerText === '42 %'")
    assert page.value("document.activeElement === document.querySelector('#hosts input')")
    assert page.problems == []


def test_a_restart_of_the_server_is_seen_and_survived(site: Site, page: Page) -> None:
    """The page says that it has lost the monitor, lets its numbers grow old in sight, and comes back by itself."""
    site.stop()
    page.until("document.getElementById('link-state').innerText === 'reconnecting'")
    assert "No connection to the monitor" in text(page, "#headline")
    assert page.value("document.title") == "Bursar · no connection"
    page.until("document.querySelector('.tile .age.stale') !== null")
    site.start()
    page.until("document.getElementById('link-state').innerText === 'live'")
    site.tick(cpu=dict.fromkeys(site.fleet.names, 333))
    page.until("document.querySelector('.tile-value').innerText === '33 %'")
    assert all("Failed to load resource" in said for said in page.problems), page.problems


def test_an_instance_that_stands_by_says_so(site: Site, page: Page) -> None:
    """It shows no numbers of before as if they were its own."""
    site.feed.show(None)
    page.until("document.getElementById('link-state').innerText === 'standing by'")
    assert "stands by" in text(page, "#headline")
    assert page.value("document.querySelectorAll('.tile-value').length") == 0
    site.tick()
    page.until("document.querySelectorAll('.tile-value').length > 0")
    assert page.problems == []


def test_what_is_silent_is_old_in_sight(site: Site, page: Page) -> None:
    """A host that is not heard is marked in words, and its age goes on."""
    silent = (site.fleet.names[7],)
    for _ in range(30):
        site.tick(silent=silent)
    see(page, "hosts")
    page.until("document.querySelector('#hosts tbody tr').innerText.includes('silent')")
    assert page.value("document.querySelector('#hosts tbody tr .age').className") == "age old"
    assert "1 host silent" in text(page, "#tiles")
    assert "critical" in text(page, "#firing")
    assert page.value("document.title").startswith("(")


def test_a_panel_that_nobody_sees_is_not_asked_for(site: Site, page: Page) -> None:
    """Neither one that is below the screen nor one that is folded."""
    page.resize(1200, 500)
    page.requests.clear()
    site.tick()
    page.until("document.querySelector('#link-state').innerText === 'live'")
    site.tick()
    see(page, "circuits")
    asked = {url.rpartition("/")[2] for url in page.requests}
    assert "circuits" in asked
    assert "instances" not in asked
    page.value("document.querySelector('#circuits .fold').click()")
    assert page.value("document.getElementById('circuits-body').hidden")
    page.requests.clear()
    site.tick(cpu=dict.fromkeys(site.fleet.names, 111))
    page.until("document.querySelector('.tile-value').innerText === '11 %'")
    assert not any(url.endswith("/panel/circuits") for url in page.requests)


@pytest.mark.parametrize(("width", "dark"), [(1440, True), (1440, False), (390, True)], ids=["dark", "light", "phone"])
def test_everybody_can_read_it(browser: Chromium, site: Site, width: int, dark: bool) -> None:
    """axe-core finds nothing: contrast, names, roles, order. At the width of a phone nothing sticks out."""
    for _ in range(20):
        site.tick(silent=(site.fleet.names[3],))
    page = browser.open(site.address, width, dark=dark)
    page.until("document.querySelector('.alert')")
    for panel in PANELS:
        see(page, panel)
    assert violations(page) == []
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.problems == []


def test_it_can_be_used_by_keys_alone(site: Site, page: Page) -> None:
    """Tab reaches what can be pressed, with a focus that is seen; single keys go from panel to panel."""
    page.press("Tab")
    assert page.value("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(30):
        page.press("Tab")
        assert page.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        reached.add(page.value("document.activeElement.id || document.activeElement.className"))
    assert {"theme", "help-button", "fold"} <= reached
    page.value("document.activeElement.blur()")
    page.press("j")
    page.press("j")
    assert page.value("document.activeElement.id") == "budgets"
    page.press("k")
    assert page.value("document.activeElement.id") == "alerts"
    page.press("/")
    page.until("document.activeElement.type === 'search'")
    page.press("j")
    assert page.value("document.activeElement.value") == "j"
    page.value("document.activeElement.blur()")
    page.press("?")
    assert page.value("document.getElementById('help').open")
    page.press("Escape")
    assert not page.value("document.getElementById('help').open")


def test_colours_are_chosen_and_remembered(page: Page) -> None:
    """As the system has it, light, dark; the choice outlives a reload."""
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.value(ground)
    page.press("t")
    light = page.value(ground)
    assert light != dark
    page.press("t")
    assert page.value(ground) == dark
    page.prefer(dark=False)
    assert page.value(ground) == dark
    page.value("window.before = true; location.reload()")
    page.until("!window.before && document.body && document.documentElement.dataset.theme === 'dark'")
    assert page.value(ground) == dark


def test_without_the_token_there_is_a_form_and_nothing_else(browser: Chromium, site: Site) -> None:
    """A wrong token is told; the right one opens the page, and does not stay in the address."""
    page = browser.open(f"{site.origin}/")
    assert "node-" not in page.value("document.documentElement.outerHTML")
    assert violations(page) == []
    page.value("document.getElementById('token').value = 'nonsense'; document.forms[0].requestSubmit(); true")
    page.until("document.querySelector('[role=alert]')")
    page.value(f"document.getElementById('token').value = {TOKEN!r}; document.forms[0].requestSubmit(); true")
    page.until("document.querySelector('.tile-value')")
    assert page.value("location.search") == ""
    assert page.value("document.cookie") == "", "no script can read it"
    assert outside(page.requests, site.origin) == []


def test_log_lines_are_followed_and_filtered(site: Site, page: Page) -> None:
    """The newest first, by level, service and text; what is said meanwhile comes by itself."""
    site.say(level="INFO", service="limiter", event="owner_now")
    site.say(level="ERROR", service="breaker", event="handler_failed", id="req-7")
    page.press("l")
    page.until("document.querySelectorAll('#logs .line').length === 2")
    assert "handler_failed id=req-7" in text(page, "#logs .line")
    site.say(level="WARNING", service="limiter", event="bus_errors")
    site.tick()
    page.until("document.querySelectorAll('#logs .line').length === 3")
    choose(page, "#logs select", "onchange", "error")
    page.until("document.querySelectorAll('#logs .line').length === 1")
    choose(page, "#logs input", "oninput", "req-8")
    page.until("document.querySelector('#logs .panel-body').innerText.includes('Nothing was said')")
    assert page.problems == []


def test_another_token_is_asked_for(site: Site, page: Page) -> None:
    """A server that was started again with another token: the page gives place to the form."""
    site.stop()
    site.token = "another-token-of-the-tests"
    site.start()
    page.until("document.getElementById('token') !== null")


def test_names_from_the_fleet_are_text(site: Site, page: Page) -> None:
    """Whatever a budget or a target is called: it is shown, and never run."""
    hostile = "<img src=x onerror=alert(1)>"
    drawn = site.fleet.tick()
    rows = [dict(row, target=hostile) for row in drawn.rows["circuits"]][:1]
    site.feed.show(drawn._replace(rows={**drawn.rows, "circuits": rows}))
    see(page, "circuits")
    page.until("document.querySelector('#circuits tbody th').innerText.includes('onerror')")
    assert page.value("document.querySelectorAll('#panels img').length") == 0
    assert page.problems == []
