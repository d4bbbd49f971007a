"""Would it fit, why not, what would have to be freed, and what a model would take."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.contracts import gpu as wire
from bursar.kernel.decider import Accept, Refuse
from bursar_gpu_manager.estimates import CONTEXT, GRAPHS
from bursar_gpu_manager.freeing import Freed, Rooms, Space, smallest
from tests.gpu_manager.desk import GIB, MAC, Desk, code

HALF = GIB // 2
OF_THE_ENGINE = ("gpu_memory_utilization", "swap_space_fraction", "host_memory")


def explained(desk: Desk, memory: int = GIB, load: dict[str, Any] | None = None, **want: Any) -> wire.Explained:
    own = {name: want.pop(name) for name in OF_THE_ENGINE if name in want}
    body = wire.Explain(want=None if load and not want else wire.Wanted(memory=memory, **want),
                        load=wire.ModelLoad(**load) if load else None, **own)  # fmt: skip
    before = desk.dump()
    outcome = desk.ask(body, "ann")
    assert isinstance(outcome, Refuse), outcome
    assert desk.dump() == before
    return wire.Explained.model_validate({**outcome.reply, "fence": f"1.1.1.{MAC}"})


def test_what_fits_is_said_with_its_devices_and_is_then_granted_there() -> None:
    """Asking grants nothing."""
    desk = Desk("h1=2x16GiB")
    desk.granted(10 * GIB)
    told = explained(desk, 5 * GIB)
    assert (told.fits, told.devices, told.free, told.reason) == (True, ["h1/SIM-h1-0"], None, "")
    assert desk.granted(5 * GIB)["devices"][0]["device"] == told.devices[0]


def test_the_smallest_set_of_leases_is_named() -> None:
    """The fewest leases, of those the fewest bytes; when they have ended it fits."""
    desk = Desk("h1=16GiB", "h2=16GiB")
    small = [desk.granted(3 * GIB, hosts=("h1",), principal="ann")["lease"] for _ in range(5)]
    large = desk.granted(9 * GIB, hosts=("h2",), principal="bob", purpose="kv_cache")["lease"]
    desk.granted(6 * GIB, hosts=("h2",))
    told = explained(desk, 9 * GIB)
    assert (told.fits, told.reason, told.is_smallest) == (False, "no_room", True)
    assert told.free is not None
    assert [(one.lease, one.principal, one.frees) for one in told.free] == [(large, "bob", 9 * GIB)]
    assert told.free[0].purpose == "kv_cache"
    desk.release(large, "bob")
    assert isinstance(desk.lease(9 * GIB), Accept)
    told = explained(desk, 3 * GIB)
    assert [one.lease for one in told.free or []] == [small[0]]


def test_what_is_used_beyond_a_lease_is_freed_with_it() -> None:
    """And foreign memory is shown, which no lease's end frees."""
    desk = Desk("h1=16GiB")
    pid, process = desk.process("h1")
    desk.granted(2 * GIB, processes=(process,))
    desk.hosts["h1"].allocate(pid, "SIM-h1-0", 5 * GIB)
    stranger, _ = desk.hosts["h1"].start(foreign=True)
    desk.hosts["h1"].allocate(stranger, "SIM-h1-0", 8 * GIB)
    desk.observe("h1")
    told = explained(desk, 7 * GIB)
    assert [one.frees for one in told.free or []] == [5 * GIB]
    assert [(row.why, row.foreign, row.missing) for row in told.obstacles] == [(["no_room"], 8 * GIB, 5 * GIB - HALF)]
    assert explained(desk, 8 * GIB).free is None


def test_each_device_says_what_stands_in_its_way() -> None:
    """Those that come closest first."""
    desk = Desk("h1=16GiB", "h2=16GiB", "h3=16GiB")
    desk.configure(silence_ms=60_000)
    desk.live(3_000, silent=("h2",))
    desk.granted(GIB, hosts=("h1",), purpose="loading")
    desk.ask(wire.Lease(id="w-1", memory=16 * GIB - HALF, wait_ms=9_000, hosts=("h1",)), "bob")
    told = explained(desk, 2 * GIB, purpose="loading", hosts=("h1", "h2"))
    assert [(row.device[:2], row.why) for row in told.obstacles] == [
        ("h1", ["loading", "wanted_before"]),
        ("h2", ["not_observed"]),
    ]
    assert explained(desk, hosts=("h9",)).reason == "no_device"
    assert explained(desk, 99 * GIB).reason == "never_fits"


def test_a_set_is_freed_as_a_set() -> None:
    """One lease over two devices frees both."""
    desk = Desk("h1=2x16GiB")
    both = desk.granted(4 * GIB, devices=2, principal="ann")["lease"]
    for _ in range(2):
        desk.granted(9 * GIB)
    told = explained(desk, 5 * GIB, devices=2)
    assert [one.lease for one in told.free or []] == [both]
    assert told.free is not None
    assert told.free[0].devices == ["h1/SIM-h1-0", "h1/SIM-h1-1"]


def test_a_model_is_asked_for_by_name_or_by_its_configuration() -> None:
    """Its memory is estimated by part; what is not known is an error with its own code."""
    desk = Desk("h1=RTX4070", "h2=2xH100")
    told = explained(desk, load={"model": "meta-llama/Meta-Llama-3-8B-Instruct", "context": 8_192, "sequences": 2})
    assert told.fits
    assert told.devices[0].startswith("h2/")
    assert told.estimate is not None
    assert told.estimate.kv_cache == 2 * GIB
    assert abs(told.estimate.weights / GIB - 14.9575) < 0.001
    parts = told.estimate.weights + told.estimate.kv_cache + told.estimate.activation + told.estimate.overhead
    assert told.memory == parts
    small = explained(desk, load={"model": "qwen2.5-0.5b"}, hosts=("h1",))
    assert (small.fits, small.devices) == (True, ["h1/SIM-h1-0"])
    assert explained(desk, load={"model": "llama-3-8b"}, hosts=("h1",)).reason == "never_fits"
    sharded = explained(desk, load={"model": "llama-3-70b", "shards": 2})
    assert (sharded.fits, len(sharded.devices)) == (True, 2)
    config = {"model_type": "llama", "hidden_size": 4_096, "num_hidden_layers": 32, "num_attention_heads": 32,
              "num_key_value_heads": 8, "intermediate_size": 14_336, "vocab_size": 128_256}  # fmt: skip
    same = explained(desk, load={"model": "mine", "config": config, "context": 8_192, "sequences": 2})
    assert same.memory == told.memory
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"model": "nobody-7b"}, "unknown_model"), ({"model": "x", "config": {"model_type": "y"}}, "unsupported_model"),
        ({"model": "llama-3-8b", "kv_form": "fp3"}, "unknown_format"),
        ({"model": "llama-3-8b", "context": 2**24, "sequences": 2**16}, "bad_config"),
    ]  # fmt: skip
    for load, expected in wrong:
        assert code(desk.ask(wire.Explain(load=wire.ModelLoad(**load)), "ann")) == expected
    with pytest.raises(ValueError, match="neither"):
        wire.Explain()


def test_a_model_takes_the_part_of_its_card_that_its_engine_is_told_to() -> None:
    """And its context and graphs beside it; the cache is what is left of the part, swapped blocks are the host's."""
    desk = Desk("h1=H100")
    view = next(iter(desk.state.sights["h1"].views.values()))
    load = {"model": "llama-3-8b", "context": 8_192}
    told = explained(desk, load=load, gpu_memory_utilization=800, host_memory=64 * GIB, swap_space_fraction=100)
    assert told.estimate is not None
    assert told.memory == view.visible * 8 // 10 + CONTEXT + GRAPHS
    assert told.fits
    fixed = told.estimate.weights + told.estimate.activation + told.estimate.overhead
    assert 0 <= told.memory - fixed - told.estimate.kv_cache < 2 << 20
    assert told.estimate.tokens * told.estimate.kv_per_token == told.estimate.kv_cache
    assert told.estimate.swap == (64 * GIB // 10) // (2 << 20) * (2 << 20)
    small = desk.ask(wire.Explain(load=wire.ModelLoad.model_validate(load), gpu_memory_utilization=200), "ann")
    assert code(small) == "lease_too_small"
    assert not explained(desk, load=load, gpu_memory_utilization=1_000).fits


def test_a_configuration_says_in_which_format_its_weights_are() -> None:
    """Unless somebody else is said to be right."""
    desk = Desk("h1=H100")
    config = {"model_type": "llama", "hidden_size": 4_096, "num_hidden_layers": 32, "num_attention_heads": 32,
              "num_key_value_heads": 8, "intermediate_size": 14_336, "vocab_size": 128_256}  # fmt: skip

    def weights(**more: Any) -> int:
        form = {"form": more.pop("form")} if "form" in more else {}
        found = explained(desk, load={"model": "mine", "config": config | more, **form}).estimate
        assert found is not None
        return found.weights

    whole = weights()
    assert weights(torch_dtype="bfloat16") == whole
    assert weights(torch_dtype="float32") == 2 * whole
    assert weights(torch_dtype="float32", form="fp16") == whole
    awq = weights(quantization_config={"quant_method": "awq", "bits": 4, "group_size": 128})
    assert 0.35 < awq / whole < 0.36
    strange = wire.ModelLoad(model="m", config=config | {"quantization_config": {"quant_method": "magic"}})
    assert code(desk.ask(wire.Explain(load=strange), "ann")) == "unknown_format"


# ---- the smallest set, against all sets


spaces_ = st.dictionaries(
    st.sampled_from(["a1", "a2", "a3", "b1", "b2"]), st.integers(-4, 10), min_size=1
)  # fmt: skip
leases_ = st.lists(
    st.dictionaries(st.sampled_from(["a1", "a2", "a3", "b1", "b2"]), st.integers(1, 8), min_size=1), max_size=7
)


@pytest.mark.property
@settings(max_examples=300, deadline=None)
@given(spaces_, leases_, st.integers(1, 12), st.integers(1, 3))
def test_no_set_of_leases_is_smaller(
    rooms: dict[str, int], rows: list[dict[str, int]], memory: int, count: int
) -> None:
    """Every subset is tried."""
    spaces = {name: Space(name[0], room) for name, room in rooms.items()}
    leases = {f"l{number}": row for number, row in enumerate(rows)}

    def fits(keys: tuple[str, ...]) -> bool:
        left = {name: room + sum(leases[key].get(name, 0) for key in keys) for name, room in rooms.items()}
        return any(sum(left[name] >= memory for name in left if name[0] == group) >= count for group in "ab")

    found = smallest(spaces, leases, memory, count)
    sizes = [size for size in range(len(leases) + 1) if any(fits(keys) for keys in combinations(leases, size))]
    if not sizes:
        assert found is None
        return
    assert found is not None
    assert found.is_smallest
    assert fits(found.leases)
    assert len(found.leases) == sizes[0]
    weight = min(
        sum(sum(leases[key].values()) for key in keys) for keys in combinations(leases, sizes[0]) if fits(keys)
    )
    assert sum(sum(leases[key].values()) for key in found.leases) == weight


def test_where_all_sets_are_too_many_one_is_put_together() -> None:
    """It fits, nothing in it is needless, and on a single device no set is smaller."""
    leases = {f"l{number:03}": {"a": 1 + number % 5} for number in range(300)}
    found = smallest({"a": Space("g", 0)}, leases, 23, 1)
    assert found is not None
    assert (len(found.leases), found.is_smallest) == (5, True)
    assert sum(leases[key]["a"] for key in found.leases) >= 23
    both = {f"l{number:03}": {"a": 2, "b": 1} if number % 2 else {"b": 3} for number in range(200)}
    found = smallest({"a": Space("g", 0), "b": Space("g", 0)}, both, 30, 2)
    assert found is not None
    assert not found.is_smallest
    for key in found.leases:
        rest = [other for other in found.leases if other != key]
        assert min(sum(both[other].get(name, 0) for other in rest) for name in "ab") < 30
    assert smallest({"a": Space("g", 0)}, {}, 1, 1) is None
    assert smallest({"a": Space("g", 5)}, {}, 1, 1) == Freed((), True)


@pytest.mark.parametrize("count", [1, 8])
def test_an_explanation_over_a_thousand_cards_looks_at_no_more_than_it_must(count: int) -> None:
    """Of so many sets only few are tried: nobody who asks may keep the manager from deciding."""
    spaces = {f"h{number // 8:03}/{number}": Space(f"h{number // 8:03}", 1) for number in range(1_000)}
    leases = {f"l{number:04}": {f"h{number // 40:03}/{number // 5}": 3 + number % 7} for number in range(5_000)}
    asked = 0
    fit = Rooms.fit

    def counted(rooms: Rooms, keys: Iterable[str]) -> bool:
        nonlocal asked
        asked += 1
        return fit(rooms, keys)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rooms, "fit", counted)
        found = smallest(spaces, leases, 20, count)
    assert found is not None
    assert len(found.leases) == (3 if count == 1 else 25)
    assert asked < 20_000
