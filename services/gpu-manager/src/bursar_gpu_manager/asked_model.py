"""The model that somebody asks about: its shape, and how its engine would be started."""

from __future__ import annotations

from bursar.contracts import gpu as wire
from bursar_gpu_manager.estimates import Engine
from bursar_gpu_manager.known_models import known_shape
from bursar_gpu_manager.models import Shape, form_of, shape_of


def asked_model(load: wire.ModelLoad, utilization: int = 900, swap_space: int = 0) -> tuple[Shape, Engine]:
    """``utilization``, ``swap_space``: parts of the card and of the host's memory, in thousandths. Formats that were
    not said are those of the configuration; a cache is kept as the weights are computed with.

    Raises `CallerError`: unknown_model, unsupported_model, unknown_format, bad_config."""
    shape = known_shape(load.model) if load.config is None else shape_of(load.config)
    form = load.form or ("fp16" if load.config is None else form_of(load.config))
    engine = Engine(
        form=form,
        kv_form=load.kv_form or ("fp32" if form == "fp32" else "fp16"),
        gpu_memory_utilization=utilization / 1_000,
        swap_space_fraction=swap_space / 1_000,
        max_num_batched_tokens=load.max_num_batched_tokens,
        max_num_sequences=load.max_num_sequences,
        shards=load.shards,
    )
    return shape, engine
