"""``bursar budgets``: what is imported, what is refused and where, and that all of it is good for the limiter."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from bursar.cli.litellm import BadConfig, import_litellm
from bursar.cli.main import build
from bursar.cli.tiers_of import example, providers, tiers_of
from bursar.contracts.limiter import BudgetSpec, LimitSpec
from bursar_limiter.budgets import budgets_of

CONFIG = """
model_list:
  - model_name: smart
    litellm_params: { model: anthropic/claude-opus-4-6, api_key: os.environ/KEY_A, rpm: 50, itpm: 30000, otpm: 8000 }
  - model_name: older
    litellm_params: { model: claude-opus-4-1, api_key: os.environ/KEY_A, rpm: 40 }
  - model_name: chat
    litellm_params: { model: gpt-4.1, api_key: sk-very-secret, rpm: "500", tpm: 30_000.0, max_parallel_requests: 8 }
  - model_name: chat
    litellm_params: { model: openai/gpt-4.1, api_key: os.environ/KEY_B, rpm: 100, rpd: 10000 }
    model_info: { id: second }
  - model_name: local
    litellm_params: { model: ollama/llama3, api_base: "http://here" }
litellm_settings: { drop_params: true }
"""


def budgets(text: str) -> dict[str, BudgetSpec]:
    return {spec.name: spec for spec in budgets_of(tomllib.loads(text), text, "out.toml")}


def test_deployments_become_budgets_by_key_and_pool() -> None:
    """Rates by the minute and the day, calls in flight; the smaller figure where two share a limit."""
    text = import_litellm(CONFIG, "config.yaml")
    found = budgets(text)
    minute = 60_000
    assert found["anthropic/opus-4"].limits == {
        "requests": LimitSpec(limit=40, window_ms=minute),
        "input_tokens": LimitSpec(limit=30_000, window_ms=minute),
        "output_tokens": LimitSpec(limit=8_000, window_ms=minute, charge="production"),
    }
    assert found["openai/gpt-4-1/key-1"].limits == {
        "requests": LimitSpec(limit=500, window_ms=minute),
        "total_tokens": LimitSpec(limit=30_000, window_ms=minute),
        "concurrent": LimitSpec(limit=8, window_ms=0),
    }
    assert found["openai/gpt-4-1/key_b"].limits["requests"] == (
        LimitSpec(limit=100, window_ms=minute), LimitSpec(limit=10_000, window_ms=86_400_000),
    )  # fmt: skip
    assert len(found) == 3
    assert "rpm differs" in text
    assert '# [budgets."ollama/llama3"] has no limits there.' in text


def test_figures_stand_where_litellm_looks_for_them() -> None:
    """Beside the parameters, in them, or in what is told of the model, in this order."""
    text = """
model_list:
  - { model_name: m, litellm_params: { model: openai/gpt-5, tpm: 20 }, model_info: { tpm: 30, rpm: 3 }, tpm: 10 }
"""
    (found,) = budgets(import_litellm(text, "config.yaml")).values()
    assert found.limits["total_tokens"] == LimitSpec(limit=10, window_ms=60_000)
    assert found.limits["requests"] == LimitSpec(limit=3, window_ms=60_000)


def test_no_key_is_ever_written_down() -> None:
    """Nor what else somebody has put into a name."""
    assert "secret" not in import_litellm(CONFIG, "config.yaml")
    evil = CONFIG.replace("model_name: smart", 'model_name: "x\\n[budgets.evil]\\nlimits.requests = 1"')
    assert set(budgets(import_litellm(evil, "config.yaml"))) == set(budgets(import_litellm(CONFIG, "config.yaml")))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "c.yaml: it has no model_list"),
        ("- 1", "c.yaml: it has no model_list"),
        ("model_list: {}", "c.yaml: it has no model_list"),
        ("model_list: []", "c.yaml: it has no model_list"),
        ("a: [1", "c.yaml, line 1: not YAML: "),
        ("a: b\n  c: d", "c.yaml, line 2: not YAML: "),
        ("a: !!python/object/apply:os.system ['true']", "not YAML: could not determine a constructor"),
        ("model_list: [3]", "c.yaml: model_list[0]: must be a map"),
        ("model_list: [{}]", "c.yaml: model_list[0]: has no model_name"),
        ("model_list: [{model_name: m}]", "c.yaml: model_list[0] (m): has no litellm_params"),
        ("model_list: [{model_name: m, litellm_params: {rpm: 3}}]", "litellm_params has no model"),
        ("model_list: [{model_name: m, litellm_params: {model: a/b}}]", "there is nothing to limit"),
        (
            "model_list: [{model_name: m, litellm_params: {model: a/b, rpm: many}}]",
            "(m): rpm = 'many': must be a whole",
        ),
        ("model_list: [{model_name: m, litellm_params: {model: a/b, rpm: 0}}]", "rpm = 0: must be from 1 to"),
        ("model_list: [{model_name: m, litellm_params: {model: a/b, tpm: -5}}]", "tpm = -5: must be a whole number"),
        (
            "model_list: [{model_name: m, litellm_params: {model: a/b, rpm: true}}]",
            "rpm = True: must be a whole number",
        ),
        ("model_list: [{model_name: m, litellm_params: {model: a/b, rpm: 1.5}}]", "rpm = 1.5: must be a whole number"),
        ("model_list: [{model_name: m, litellm_params: {model: a/b, rpm: os.environ/R}}]", "read from the environment"),
        ("model_list: [{model_name: m, litellm_params: {model: a/b, tpm: 99999999999999999999}}]", "must be from 1 to"),
        ("a: " + "[" * 5_000, "not YAML"),
    ],
)
def test_what_cannot_be_imported_is_refused_with_its_place(text: str, says: str) -> None:
    """File, line or entry, key, and what would be right."""
    with pytest.raises(BadConfig) as raised:
        import_litellm(text, "c.yaml")
    assert says in str(raised.value)


@pytest.mark.fuzz
@given(st.text(max_size=200))
def test_any_text_is_imported_or_refused(text: str) -> None:
    """Nothing else comes out of it."""
    try:
        budgets(import_litellm(text, "c.yaml"))
    except BadConfig as error:
        assert "c.yaml" in str(error)


def test_all_examples_are_good_budgets_and_say_when_they_were_read() -> None:
    """Each tier of each provider, for the name that the charge model gives a pool."""
    assert {"anthropic", "openai"} <= set(providers())
    for provider in providers():
        for tier, pools in tiers_of(provider)["tiers"].items():
            text = example(provider, tier)
            assert set(budgets(text)) == {f"{provider}/{pool}" for pool in pools}
            assert tiers_of(provider)["read"] in text
            assert "Check against your console" in text


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(build(["bursar.cli.budgets", "bursar.cli.trust"]), ["budgets", *arguments])
    return result.exit_code, result.output


def test_import_writes_a_file_once_and_check_reads_it(tmp_path: Path) -> None:
    """Never over one that is there; wrong ones are named, with status 1."""
    config, out = tmp_path / "config.yaml", tmp_path / "budgets.toml"
    config.write_text(CONFIG)
    assert run("import", "litellm", str(config), "--out", str(out))[0] == 0
    code, said = run("check", str(out))
    assert (code, len(said.splitlines())) == (0, 3)
    assert run("import", "litellm", str(config), "--out", str(out)) == (1, f"bursar: {out} is there already\n")
    out.write_text("[budgets.a]\njiter = 1")
    code, said = run("check", str(out))
    assert code == 1
    assert "unknown key 'jiter'" in said
    assert run("import", "litellm", str(tmp_path / "none"))[0] == 1
    assert run("import", "litellm", str(out))[0] == 1
    assert run("check", str(tmp_path / "none"))[0] == 1


def test_examples_are_listed_and_shown(tmp_path: Path) -> None:
    """Providers, tiers, and the file itself."""
    assert "anthropic" in run("example")[1]
    assert "tier-4" in run("example", "anthropic")[1]
    assert "limits.requests" in run("example", "openai", "tier-1")[1]
    assert run("example", "nobody")[0] == run("example", "anthropic", "tier-99")[0] == 1
    assert run("example", "anthropic", "tier-4", "--out", str(tmp_path / "no" / "where"))[0] == 1
