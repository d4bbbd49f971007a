"""The file of budgets."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from bursar.contracts.limiter import BudgetSpec, LimitSpec
from bursar.contracts.limiter_observed import Adapting
from bursar_limiter.__main__ import main
from bursar_limiter.budgets import BadBudgets, budgets_of, count, duration, money, permille
from bursar_limiter.reloading import digest
from bursar_limiter.service import SPEC, start
from bursar_limiter.settings import EXAMPLE, LimiterSettings, read_budgets
from bursar_limiter.state import State
from tests.limiter.fleet import Desk


def parse(text: str) -> tuple[BudgetSpec, ...]:
    return budgets_of(tomllib.loads(text), text, "x.toml")


@pytest.mark.parametrize(
    ("text", "ms"), [("500ms", 500), ("20s", 20_000), ("1.5m", 90_000), ("24h", 86_400_000), ("30 d", 2_592_000_000)]
)
def test_times_have_units(text: str, ms: int) -> None:
    """Milliseconds to days, fractions that come out whole."""
    assert duration(text) == ms
    assert duration(ms) == ms


@pytest.mark.parametrize(("text", "number"), [("250", 250), ("10k", 10_000), ("1.5M", 1_500_000), ("2_000", 2000)])
def test_counts_have_thousands(text: str, number: int) -> None:
    """k, M and G."""
    assert count(text) == number


def test_money_is_in_dollars() -> None:
    """To the millionth, exactly."""
    assert [money("$5"), money("0.25"), money(5), money("$0.000001")] == [5_000_000, 250_000, 5_000_000, 1]


def test_shares_are_percentages() -> None:
    """To a tenth of a percent."""
    assert [permille("92%"), permille("5.5 %")] == [920, 55]


@pytest.mark.parametrize("text", ["", "5", "5 minutes", "-1s", True, None, "1.0005s"])
def test_a_bad_time_says_what_it_should_be(text: object) -> None:
    """With examples."""
    with pytest.raises(ValueError, match="20s"):
        duration(text)


@pytest.mark.parametrize("text", ["$", "5 EUR", "$0.0000001", True, 2.5])
def test_bad_money_says_what_it_should_be(text: object) -> None:
    """No floats: they are not exact."""
    with pytest.raises(ValueError, match="dollars"):
        money(text)


def test_a_budget_in_full() -> None:
    """Every key, in people's units."""
    (spec,) = parse(
        """
        [budgets."acme/large"]
        jitter = "1s"
        send_within = "700ms"
        utilisation = "90%"
        burst = "10%"
        max_ttl = "5m"
        max_waiting = "1k"
        adapt = { max_freeze = "90s", learn = false, ramp = "30s" }
        limits.requests = { limit = "4k", window = "1m" }
        limits.output_tokens = { limit = "80k", window = "1m", charge = "production" }
        limits.input_tokens = { limit = "400k", window = "1m", bucket = "50k" }
        limits.concurrent = 64
        limits.usd = { limit = "$25", window = "1d", paced = false }
        """
    )
    assert spec == BudgetSpec(
        name="acme/large",
        jitter_ms=1000,
        send_within_ms=700,
        utilisation_permille=900,
        burst_permille=100,
        max_ttl_ms=300_000,
        max_waiting=1000,
        adapt=Adapting(max_freeze_ms=90_000, learn=False, ramp_ms=30_000),
        limits={
            "requests": LimitSpec(limit=4000, window_ms=60_000),
            "output_tokens": LimitSpec(limit=80_000, window_ms=60_000, charge="production"),
            "input_tokens": LimitSpec(limit=400_000, window_ms=60_000, bucket=50_000),
            "concurrent": LimitSpec(limit=64, window_ms=0),
            "usd_micros": LimitSpec(limit=25_000_000, window_ms=86_400_000, paced=False),
        },
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "x.toml: no budgets"),
        ("a = 1", "x.toml: unknown key 'a'"),
        ("[budgets]\na = 1", "x.toml: [budgets.a]: must be a table"),
        ("[budgets.a]\nlimits = 3", "x.toml, line 1: [budgets.a]: limits must be a table"),
        ("\n[budgets.a]\njiter = 1", "x.toml, line 2: [budgets.a]: unknown key 'jiter'; there are utilisation"),
        ("[budgets.a]\nlimits.cpu = 1", "[budgets.a] limits.cpu: unknown; there are requests"),
        ("[budgets.a]\nlimits.requests = 1", "[budgets.a]: requests needs a window"),
        ("[budgets.a]\nlimits.requests = {window='1s'}", "[budgets.a] limits.requests: has no limit"),
        ("[budgets.a]\nlimits.requests = {limit='x',window='1s'}", "limits.requests: limit = 'x' must be a count"),
        ("[budgets.a]\nlimits.requests = {limit=1,window='1s',charge='no'}", "limits.requests.charge: "),
        ("[budgets.a]\nlimits.concurrent = 0", "limits.concurrent.limit: "),
        ("[budgets.a]\nlimits.concurrent = 1\nsend_within = '1s'", "must lie within jitter (500 ms)"),
        ("[budgets.a]\nlimits.concurrent = 1\nburst = 7", "burst = 7 must be a percentage"),
        ("[budgets.'A b']\nlimits.concurrent = 1", "x.toml, line 1: [budgets.A b]: name: "),
        ("[budgets.a]", "[budgets.a]: it limits nothing"),
        ("[budgets.a]\nlimits.concurrent = 1\nadapt = 1", "[budgets.a] adapt: must be a table"),
        ("[budgets.a]\nlimits.concurrent = 1\nadapt.ramp = 'x'", "[budgets.a] adapt: ramp = 'x' must be a time"),
        ("[budgets.a]\nlimits.concurrent = 1\nadapt.learn = 1", "[budgets.a]: adapt.learn: "),
        ("[budgets.a]\nlimits.concurrent = 1\nadapt.max_freeze = '2h'", "[budgets.a]: adapt.max_freeze_ms: "),
    ],
)
def test_an_error_names_the_place(text: str, said: str) -> None:
    """File, line where known, table, key, and what would be right."""
    with pytest.raises(BadBudgets) as raised:
        parse(text)
    assert said in str(raised.value)


def test_a_file_that_cannot_be_read_or_parsed_is_named(tmp_path: Path) -> None:
    """With the parser's line and column."""
    with pytest.raises(BadBudgets, match=r"absent\.toml: cannot be read"):
        read_budgets(tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("[budgets\n")
    with pytest.raises(BadBudgets, match=r"bad\.toml: .*line 1"):
        read_budgets(tmp_path / "bad.toml")


def test_the_example_is_good_and_has_a_budget_for_the_demo() -> None:
    """The file that is used by default."""
    assert LimiterSettings().budgets == EXAMPLE
    assert "demo" in [spec.name for spec in read_budgets(EXAMPLE)]
    assert Desk(*read_budgets(EXAMPLE)).status().budgets


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As for all services, with the prefix BURSAR_."""
    monkeypatch.setenv("BURSAR_BUDGETS", str(tmp_path / "b.toml"))
    assert LimiterSettings().budgets == tmp_path / "b.toml"


def test_a_process_with_a_wrong_file_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2 and one line, before anything is connected."""
    monkeypatch.setattr("sys.argv", ["bursar_limiter"])
    monkeypatch.setenv("BURSAR_BUDGETS", str(tmp_path / "absent.toml"))
    assert main() == 2
    assert "absent.toml: cannot be read" in capsys.readouterr().err


def test_an_owner_starts_with_the_file_it_was_given(tmp_path: Path) -> None:
    """Once for each content of the file; a file that has become bad changes nothing."""
    file = tmp_path / "b.toml"
    file.write_text("[budgets.a]\nlimits.concurrent = 1\n")
    settings, state = LimiterSettings(budgets=file), State()
    (command,) = start(settings, state)
    assert digest(command.budgets) == digest(read_budgets(file))  # type: ignore[attr-defined]
    state.source = digest(read_budgets(file))
    assert not start(settings, state)
    file.write_text("[budgets")
    assert not start(settings, state)
    assert SPEC.start is start


def test_a_tree_in_a_file() -> None:
    """Parents, purses, several windows, what each agent gets: as the head of the module shows it."""
    purse, org, team = parse(
        """
        [budgets."acme/purse"]
        kind = "purse"
        limits.usd = "$500"
        [budgets.acme]
        limits.requests = [ { limit = 200, window = "1s" }, { limit = "4k", window = "1m" } ]
        [budgets."acme/large"]
        parent = "acme"
        also = ["acme/purse"]
        weight = 300
        highest_priority = "standard"
        each_agent.limits.concurrent = 8
        each_agent.weight = 50
        each_run.limits.total_tokens = { limit = "1M", window = "1h", paced = false }
        limits.input_tokens = { limit = 9000, in_flight = true }
        """
    )
    assert (purse.kind, purse.limits["usd_micros"]) == ("purse", LimitSpec(limit=500_000_000, window_ms=0))
    assert org.limits["requests"] == (LimitSpec(limit=200, window_ms=1000), LimitSpec(limit=4000, window_ms=60_000))
    assert (team.parent, team.also, team.weight, team.highest) == ("acme", ("acme/purse",), 300, "standard")
    assert team.each_agent is not None
    assert (team.each_agent.limits["concurrent"], team.each_agent.weight) == (LimitSpec(limit=8, window_ms=0), 50)
    assert team.each_run is not None
    assert team.each_run.limits["total_tokens"] == LimitSpec(limit=10**6, window_ms=3_600_000, paced=False)
    assert team.limits["input_tokens"] == LimitSpec(limit=9000, window_ms=0, in_flight=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[budgets.a]\nparent = 'b'", "line 1: [budgets.a]: it names b, which is not there"),
        ("[budgets.a]\nparent = 'b'\n[budgets.b]\nparent = 'a'", "stands above itself"),
        ("[budgets.a]\nalso = 'b'\nlimits.concurrent = 1", "must be a list of names"),
        ("[budgets.a]\neach_agent = 5", "[budgets.a] each_agent: must be a table"),
        ("[budgets.a]\neach_agent.limits = 5", "[budgets.a] each_agent: limits must be a table"),
        ("[budgets.a]\neach_run.limits.requests = 5", "each_run: requests needs a window"),
        ("[budgets.a]\nlimits.requests = [{limit=1,window='1s'},{limit=2,window='1s'}]", "two limits with the same"),
        ("[budgets.a]\nkind = 'purse'\nlimits.usd = {limit='$5',window='1d'}", "spent once has no window"),
        ("[budgets.a]\nlimits.requests = {limit=1,window='1s',in_flight=true}", "in flight has no window"),
        ("[budgets.a]\nweight = 0\nlimits.concurrent = 1", "weight"),
    ],
)
def test_a_wrong_tree_is_said_with_its_place(text: str, words: str) -> None:
    """Cycles, unknown parents, wrong templates."""
    with pytest.raises(BadBudgets) as caught:
        parse(text)
    assert words in str(caught.value)
