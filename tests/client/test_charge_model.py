"""What a call counts as at each provider, as versioned data."""

from __future__ import annotations

from pathlib import Path

import pytest

from bursar.client.charge_model import BadChargeModel, charge_model, newest, read_charge_model, shipped
from bursar.client.usage import CallUsage

OWN = """
format = 1
name = "mine"
revision = "2026-11-01"
sources = ["our gateway's manual"]
"""


def usage(**told: int) -> CallUsage:
    seen = CallUsage()
    seen.take(told)
    return seen


ANTHROPIC = usage(input_tokens=30, output_tokens=4, cache_creation_input_tokens=5, cache_read_input_tokens=900)


def test_all_that_are_shipped_are_valid_and_say_when_and_where_they_were_read() -> None:
    """Each file's name is its version."""
    assert {"generic", "anthropic", "openai", "gemini"} <= set(newest())
    for version, model in shipped().items():
        assert version == model.version
        assert model.sources
    folder = Path(charge_model.__code__.co_filename).parent / "charge_models"
    assert sorted(path.stem for path in folder.glob("*.toml")) == sorted(shipped())


def test_a_model_is_found_by_name_revision_file_and_host(tmp_path: Path) -> None:
    """The newest revision of a name; the host that is called, where nothing is said; generic for who is unknown."""
    assert charge_model("anthropic").revision > "2025-08-12"
    assert charge_model("anthropic@2025-08-12").output.reserve == "max_tokens"
    assert charge_model(None, "api.openai.com").name == "openai"
    assert charge_model(None, "127.0.0.1").name == "generic"
    (tmp_path / "mine.toml").write_text(OWN)
    mine = charge_model(tmp_path / "mine.toml")
    assert mine.version == "mine@2026-11-01"
    assert charge_model(mine) is mine


def test_cache_reads_count_where_the_provider_counts_them() -> None:
    """Anthropic excludes them but for models with a dagger; OpenAI counts the whole prompt."""
    model = charge_model("anthropic")
    assert model.input_tokens("claude-sonnet-4-6", ANTHROPIC) == 35
    assert model.input_tokens("claude-3-5-haiku-20241022", ANTHROPIC) == 935
    openai = usage(prompt_tokens=90, completion_tokens=12)
    openai.cache_read, openai.fresh = 64, 26
    assert charge_model("openai").input_tokens("gpt", openai) == 90
    assert charge_model("generic").input_tokens("x", ANTHROPIC) == 35
    assert model.input_tokens("claude-opus-4-1", CallUsage()) is None


def test_what_was_charged_in_advance_does_not_come_back() -> None:
    """OpenAI counts the maximum of tokens; Anthropic what is produced."""
    openai, anthropic = charge_model("openai"), charge_model("anthropic")
    assert openai.output_tokens(reserved=500, produced=20) == 500
    assert openai.output_tokens(reserved=500, produced=700) == 700
    assert anthropic.output_tokens(reserved=500, produced=20) == 20
    assert openai.total_tokens(300, 500) == 500
    assert anthropic.total_tokens(300, 500) == 800
    assert charge_model("gemini").total_tokens(300, 500) == 300


def test_models_share_pools_and_long_prompts_have_their_own() -> None:
    """A family is one pool; one that stands alone is named after the model, as a budget may be called."""
    model = charge_model("anthropic")
    assert model.pool_of("claude-opus-4-7") == model.pool_of("claude-opus-4-1-20250805") == "opus-4"
    assert model.pool_of("claude-opus-5-5") == "opus-5-5"
    assert model.pool_of("claude-sonnet-4-6", 10_000) == "sonnet-4"
    assert model.pool_of("claude-sonnet-4-6", 250_000) == "sonnet-4-long"
    assert charge_model("openai").pool_of("gpt-4.1 Mini") == "gpt-4-1-mini"
    assert charge_model("openai").pool_of("...") == "model"


def test_failed_calls_count_as_the_provider_says() -> None:
    """Statuses as numbers."""
    assert charge_model("openai").charges["5xx"] == "full"
    assert charge_model("anthropic").charges[429] == "request"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("format = 1\nname", "mine.toml: "),
        (OWN.replace("format = 1", "format = 2"), "format: "),
        (OWN.replace('"2026-11-01"', '"yesterday"'), "revision: "),
        (OWN + "[output]\nreserve = 'some'", "output.reserve: "),
        (OWN + "[failed]\n700 = 'full'", "failed.700"),
        (OWN + "surprise = 1", "surprise: "),
        (OWN + "[[pools]]\nname = 'A b'\nmatch = ['x']", "pools.0.name: "),
        (OWN + "[[pools]]\nname = 'a'\nmatch = []", "pools.0.match: "),
        (OWN + "[headers]\nrounding = { money = 1 }", "headers.rounding"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_the_place(text: str, says: str) -> None:
    """Typed, with the code of bad configuration."""
    with pytest.raises(BadChargeModel, match=r"mine\.toml") as caught:
        read_charge_model(text, "mine.toml")
    assert says in caught.value.text
    assert caught.value.code == "bad_config"


def test_one_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """With the names of those that are."""
    with pytest.raises(BadChargeModel, match="openai@"):
        charge_model("nobody")
    with pytest.raises(BadChargeModel, match="cannot be read"):
        charge_model(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadChargeModel, match="cannot be read"):
        charge_model(tmp_path / "bytes.toml")
