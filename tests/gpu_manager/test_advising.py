"""Advice that is asked for, and changes that a worker tries."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.contracts import gpu as wire
from bursar.contracts import gpu_advice as advice
from bursar.kernel.decider import Accept, Broadcast, Refuse
from bursar_gpu_manager.rollout import ANSWER_MS, CANARY_WINDOWS
from tests.gpu_manager.desk import GIB, MAC, Desk, code
from tests.gpu_manager.recorded_curves import CURVES, SETUPS

RUNS = tuple(
    advice.MeasuredRun(
        batch=run.batch, throughput=round(run.throughput * 1_000), itl_us=round(run.itl * 1_000),
        preemptions=run.preemptions, kv=round(run.kv * 1_000),
    )
    for run in CURVES["opt-1.3b"]
)  # fmt: skip
SET_UPS = tuple(
    advice.MeasuredSetup(
        batch=setup.batch, replicas=setup.replicas, throughput=round(setup.throughput * 1_000),
        itl_us=round(setup.itl * 1_000), preemptions=setup.preemptions,
    )
    for setup in SETUPS["opt-1.3b"] if not setup.chunked
)  # fmt: skip


def advised(desk: Desk, **fields: Any) -> advice.Advised:
    before = desk.dump()
    outcome = desk.ask(advice.Advise(**fields), "ann")
    assert isinstance(outcome, Refuse)
    assert desk.dump() == before
    return advice.Advised.model_validate({**outcome.reply, "fence": f"1.1.1.{MAC}"})


def step(desk: Desk, what: str) -> Any:
    return desk.ask(advice.TuneStep(id=desk.new_id(), step=what), "ann")  # type: ignore[arg-type]


def window(desk: Desk, throughput: int = 9_000_000, itl_us: int = 13_000, preemptions: int = 0) -> Any:
    body = advice.TuneWindow(id=desk.new_id(), throughput=throughput, itl_us=itl_us, preemptions=preemptions)
    return desk.ask(body, "ann")


def tuned(outcome: Any) -> advice.Tuned:
    assert isinstance(outcome, Accept | Refuse), outcome
    return advice.Tuned.model_validate({**outcome.reply, "fence": f"1.1.1.{MAC}"})


def tune(desk: Desk, batch: int = 256, replicas: int = 1, another: int | None = None, **curve: Any) -> advice.Tuned:
    found = advice.Curve(runs=RUNS, **curve)
    body = advice.Tune(id=desk.new_id(), curve=found, batch=batch, replicas=replicas, another=another)
    return tuned(desk.ask(body, "ann"))


def said(desk: Desk) -> list[str]:
    told = [one for one in desk.told if isinstance(one, Broadcast) and one.kind == "advice"]
    assert all(one.name == "ann" for one in told)
    return [one.body["step"] for one in told]


def test_the_recorded_curve_is_advised_on() -> None:
    """The batch, what it costs and saves, and the setup that keeps the bound after replication."""
    found = advised(Desk(), curve=advice.Curve(runs=RUNS, setups=SET_UPS, bound=4_000))
    assert (found.batch, found.why) == (256, "fits")
    assert found.setup is not None
    assert (found.setup.batch, found.setup.replicas) == (96, 2)
    assert (256, 2) in [(setup.batch, setup.replicas) for setup in found.breaking]
    strict = advised(Desk(), curve=advice.Curve(runs=RUNS))
    assert (strict.batch, strict.efficiency, strict.setup) == (96, 247, None)
    assert advised(Desk(), curve=advice.Curve(runs=RUNS[1:])).why == "no_reference"


def test_missing_batches_are_foretold_from_those_measured() -> None:
    """Three points are enough for the others."""
    few = tuple(run for run in RUNS if run.batch in (1, 32, 128))
    found = advised(Desk(), curve=advice.Curve(runs=few), fill=(64, 96, 192))
    assert [run.batch for run in found.foretold] == [64, 96, 192]
    assert found.batch == 96
    assert advised(Desk(), fill=(64,)).foretold == []


def test_an_engine_that_was_never_measured_is_modelled() -> None:
    """From its model and the bandwidth of the card; what its lease has no room for would be preempted."""
    modelled: dict[str, Any] = {
        "load": {"model": "opt-1.3b", "context": 330}, "bandwidth": 2_400 * 10**9, "step_us": 2_500, "sequence_us": 80,
    }  # fmt: skip
    fill = (64, 96, 128, 256, 512)
    found = advised(Desk(), modelled=modelled, fill=fill)
    assert [run.batch for run in found.foretold] == [1, 32, *fill]
    assert found.batch in (64, 96)
    small = advised(Desk(), modelled=modelled | {"memory": 8 * GIB}, fill=fill)
    assert small.batch is not None
    assert small.batch < 96
    assert [run.batch for run in small.foretold if run.preemptions] == [96, 128, 256, 512]
    measured = advised(Desk(), curve=advice.Curve(runs=RUNS), modelled=modelled, fill=fill)
    assert (measured.batch, measured.foretold) == (96, [])
    wrong = advice.Advise.model_validate({"modelled": modelled | {"load": {"model": "nobody"}}})
    assert code(Desk().ask(wrong, "ann")) == "unknown_model"


def test_what_was_measured_or_is_past_what_preempts_is_not_foretold() -> None:
    """The model of a curve does not know where the cache is full: 80, though 96 and more are asked for."""
    runs = tuple(
        advice.MeasuredRun(batch=run.batch, throughput=round(run.throughput * 1_000), itl_us=round(run.itl * 1_000),
                           preemptions=run.preemptions)
        for run in CURVES["llama-2-13b"]
    )  # fmt: skip
    found = advised(Desk(), curve=advice.Curve(runs=runs, bound=5_000), fill=(32, 72, 96, 112, 1_024))
    assert found.batch == 80
    assert [(run.batch, run.preemptions) for run in found.foretold] == [(72, 0), (112, 1), (1_024, 1)]


def test_the_table_of_replicas_is_that_of_the_recorded_runs() -> None:
    """33.75 % for two at 256 over the largest batch of one engine; it breaks the bound of 4, not that of 5."""
    found = advised(Desk(), curve=advice.Curve(runs=RUNS, setups=SET_UPS, bound=5_000))
    assert found.setup is not None
    assert (found.setup.batch, found.setup.replicas, found.gain) == (256, 2, 338)
    found = advised(Desk(), curve=advice.Curve(runs=RUNS, setups=SET_UPS, bound=4_000))
    assert found.gain == 123


def test_a_weak_cpu_is_told_to_stay_away() -> None:
    """The threshold is that of the table; without waiting sequences nothing is split."""
    layer = advice.GpuLayer(linear_ns=100, attention_ns=100, gpu_rate=100, cpu_rate=10, waiting=3)
    found = advised(Desk(), layer=layer)
    assert (found.dispatch, found.threshold) == ("overlap", 6_000)
    strong = layer.model_copy(update={"cpu_rate": 20})
    assert advised(Desk(), layer=strong).dispatch == "pipelined"
    assert advised(Desk(), layer=strong.model_copy(update={"waiting": 0})).dispatch == "gpu_only"
    assert advised(Desk(), layer=layer.model_copy(update={"linear_ns": 0})).threshold is None


def test_a_step_with_prompts_in_it_is_split_where_its_halves_hide_the_cpu() -> None:
    """Whatever the layer's own inequality says; half a step is none."""
    layer = advice.GpuLayer(linear_ns=100, attention_ns=100, gpu_rate=100, cpu_rate=10, waiting=3)
    half = advice.GpuHalf(linear_us=5_000, prefill_us=3_000, gpu_decode_us=1_000, cpu_decode_us=6_000, sequences=40)
    more = {"halves": (half, half), "alone_sequences": 30, "alone_us": 9_000}
    assert advised(Desk(), layer=layer.model_copy(update=more)).dispatch == "pipelined"
    slow = half.model_copy(update={"cpu_decode_us": 8_500})
    assert advised(Desk(), layer=layer.model_copy(update=more | {"halves": (half, slow)})).dispatch == "overlap"
    assert advised(Desk(), layer=layer.model_copy(update=more | {"alone_sequences": 90})).dispatch == "overlap"
    with pytest.raises(ValueError, match="two halves"):
        advice.GpuLayer(linear_ns=1, attention_ns=1, gpu_rate=1, cpu_rate=1, halves=(half,))


def started(desk: Desk, lease: str, who: str = "ann", **fields: Any) -> Any:
    load = wire.ModelLoad(model="llama-3-8b", context=4_096, **fields.pop("load", {}))
    return desk.ask(advice.Startup(lease=lease, fence=f"{lease}.{MAC}", load=load, **fields), who)


def test_an_engine_is_told_how_to_stay_within_its_lease() -> None:
    """For both engines; refused when not even one sequence fits, or when the lease is not its own."""
    desk = Desk("h1=80GiB")
    lease = desk.granted(30 * GIB, "ann")["lease"]
    outcome = started(desk, lease)
    assert isinstance(outcome, Refuse)
    found = advice.Started.model_validate({**outcome.reply, "fence": f"1.1.1.{MAC}"})
    assert found.environment["CUDA_VISIBLE_DEVICES"] == "0"
    assert "--gpu-memory-utilization" in found.arguments
    candle = started(desk, lease, engine="candle-vllm", swap_space_fraction=100, host_memory=64 * GIB)
    assert "--kvcache-mem-cpu" in candle.reply["arguments"]
    small = desk.granted(8 * GIB, "ann")["lease"]
    assert code(started(desk, small)) == "lease_too_small"
    assert code(started(desk, lease, "bob")) == "not_yours"
    assert code(started(desk, lease, load={"shards": 2})) == "bad_config"
    desk.take_over()
    assert code(started(desk, lease)) == "conflict"
    assert isinstance(started(desk, lease, visible=70 * GIB), Refuse)


def test_a_part_of_a_divided_card_is_named_by_its_uuid() -> None:
    """Its number is that of the whole, and of all other parts; no model spans two of them."""
    desk = Desk("h1=H100")
    desk.hosts["h1"].divide("SIM-h1-0", 2)
    desk.observe("h1")
    lease = desk.granted(30 * GIB, "ann", exclude=("MIG-SIM-h1-0-0",))["lease"]
    outcome = started(desk, lease)
    assert isinstance(outcome, Refuse), outcome
    assert outcome.reply["environment"]["CUDA_VISIBLE_DEVICES"] == "MIG-SIM-h1-0-1"
    desk.release(lease, "ann")
    both = desk.granted(30 * GIB, "ann", devices=2)["lease"]
    assert code(started(desk, both, load={"shards": 2})) == "bad_config"


def test_a_better_batch_is_recommended_tried_and_kept() -> None:
    """On a subject that everybody may read; durably, through a take-over in the middle."""
    desk = Desk()
    found = tune(desk)
    assert found.recommendation is not None
    assert (found.step, found.recommendation.kind, found.recommendation.then) == ("recommended", "batch", 96)
    assert found.recommendation.itl_us == 15_020
    assert found.recommendation.promised == 793
    assert tune(desk).step == "recommended"
    tuned(window(desk, 10_800_000, 29_000))
    assert tuned(step(desk, "agreed")).step == "agreed"
    desk.take_over()
    assert tuned(step(desk, "applied")).step == "canary"
    steps = [tuned(window(desk)).step for _ in range(CANARY_WINDOWS)]
    assert steps == ["canary"] * (CANARY_WINDOWS - 1) + ["kept"]
    assert said(desk) == ["recommended", "agreed", "canary", "kept"]
    assert tune(desk, batch=96).step is None
    desk.check()


def test_a_change_that_preempts_is_taken_back_at_once() -> None:
    """And is not recommended again for a while."""
    desk = Desk()
    tune(desk)
    tuned(window(desk))
    step(desk, "agreed")
    step(desk, "applied")
    assert tuned(window(desk, preemptions=1)).step == "rolled_back"
    assert tune(desk).step is None
    desk.check()


def test_more_replicas_are_recommended_where_they_keep_the_bound() -> None:
    """Two at 96 within four times the reference; none within twice."""
    found = tune(Desk(), batch=96, setups=SET_UPS, bound=4_000).recommendation
    assert found is not None
    assert (found.kind, found.now, found.then, found.promised) == ("replicas", 1, 2, 1_050)
    assert tune(Desk(), batch=96, setups=SET_UPS).recommendation is None
    back = tune(Desk(), batch=96, replicas=2, setups=SET_UPS).recommendation
    assert back is not None
    assert (back.kind, back.then) == ("replicas", 1)


def test_steps_lead_to_the_best_setup_and_end_there() -> None:
    """From one engine at 256: the batch, then the replicas, then nothing; what breaks the bound is not advised."""
    at, path = (256, 1), []
    for _ in range(4):
        found = tune(Desk(), batch=at[0], replicas=at[1], setups=SET_UPS, bound=4_000).recommendation
        if found is None:
            break
        at = (found.then, at[1]) if found.kind == "batch" else (at[0], found.then)
        path.append((*at, found.promised))
    assert path == [(96, 1, 797), (96, 2, 1_050)]
    back = tune(Desk(), batch=96, replicas=4, setups=SET_UPS, bound=4_000).recommendation
    assert back is not None
    assert (back.kind, back.then, back.promised) == ("replicas", 2, 888)
    assert tune(Desk(), batch=512, replicas=3, setups=SET_UPS, bound=4_000).recommendation is None


def test_a_worker_that_does_not_answer_is_not_waited_for() -> None:
    """Its recommendation lapses by time; steps that do not follow are refused."""
    desk = Desk()
    assert code(step(desk, "agreed")) == code(step(desk, "applied")) == code(window(desk)) == "conflict"
    tune(desk)
    desk.advance(ANSWER_MS + 1)
    assert said(desk) == ["recommended", "lapsed"]
    assert code(step(desk, "agreed")) == "conflict"
    desk.check()


@pytest.mark.parametrize("missing", [32, 96, 256])
def test_nothing_is_recommended_without_what_it_rests_on(missing: int) -> None:
    """No reference, or no measurement of the present batch; a missing best one gives the next."""
    runs = tuple(run for run in RUNS if run.batch != missing)
    body = advice.Tune(id="t-1", curve=advice.Curve(runs=runs), batch=256)
    found = tuned(Desk().ask(body, "ann"))
    assert (found.recommendation is not None) == (missing == 96)


def test_a_second_engine_is_tried_where_there_is_room_and_time() -> None:
    """Beside one whose batch is right, before anything was measured with two: what it then does decides."""
    desk = Desk("h1=24GiB")
    bounds = {"epsilon": 200, "bound": 4_000}
    assert tune(desk, 96, another=8 * GIB, **bounds).step is None
    lease = desk.granted(10 * GIB, "ann")["lease"]
    assert tune(desk, 96, **bounds).step is None
    assert tune(desk, 96, another=14 * GIB, **bounds).step is None
    assert tune(desk, 96, another=8 * GIB).step is None
    assert tune(desk, 96, 2, another=8 * GIB, **bounds).step is None
    assert tune(desk, 96, another=8 * GIB, setups=SET_UPS[:1], **bounds).step is None
    found = tune(desk, 96, another=8 * GIB, **bounds).recommendation
    assert found is not None
    assert (found.kind, found.now, found.then, found.promised) == ("replicas", 1, 2, 1_050)
    tuned(step(desk, "agreed"))
    tuned(window(desk, 9_000_000, 13_900))
    tuned(step(desk, "applied"))
    assert tuned(window(desk, 12_000_000, 19_000, 1)).step == "rolled_back"
    desk.release(lease, "ann")
    desk.check()
