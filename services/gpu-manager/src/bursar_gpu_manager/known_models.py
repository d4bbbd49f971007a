"""Shapes of models that are asked for by name; a name is looked up without case, owner and ending ("-instruct")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bursar.errors import CallerError
from bursar_gpu_manager.models import Experts, Latent, Shape


def _opt(layers: int, hidden: int, heads: int) -> Shape:
    ffn = 4 * hidden
    return Shape(layers, hidden, heads, heads, hidden // heads, ffn, 50_272, "opt", tied=True, context=2_048)


def _qwen2(layers: int, hidden: int, heads: int, kv: int, ffn: int, vocab: int, tied: bool = False) -> Shape:
    dim = hidden // heads
    return Shape(layers, hidden, heads, kv, dim, ffn, vocab, tied=tied, qkv_bias=True, context=32_768)


def _llama3(layers: int, hidden: int, heads: int, ffn: int) -> Shape:
    return Shape(layers, hidden, heads, 8, 128, ffn, 128_256, context=131_072)


def _qwen3(hidden: int, ffn: int, tied: bool) -> Shape:
    return Shape(36, hidden, 32, 8, 128, ffn, 151_936, tied=tied, qk_norm=True, context=40_960)


KNOWN: Final[Mapping[str, Shape]] = {
    "opt-1.3b": _opt(24, 2_048, 32),
    "opt-2.7b": _opt(32, 2_560, 32),
    "opt-6.7b": _opt(32, 4_096, 32),
    "llama-2-7b": Shape(32, 4_096, 32, 32, 128, 11_008, 32_000, context=4_096),
    "llama-2-13b": Shape(40, 5_120, 40, 40, 128, 13_824, 32_000, context=4_096),
    "llama-3-8b": _llama3(32, 4_096, 32, 14_336),
    "llama-3-70b": _llama3(80, 8_192, 64, 28_672),
    "qwen2.5-0.5b": _qwen2(24, 896, 14, 2, 4_864, 151_936, tied=True),
    "qwen2.5-1.5b": _qwen2(28, 1_536, 12, 2, 8_960, 151_936, tied=True),
    "qwen2.5-7b": _qwen2(28, 3_584, 28, 4, 18_944, 152_064),
    "qwen2.5-32b": _qwen2(64, 5_120, 40, 8, 27_648, 152_064),
    "qwen3-4b": _qwen3(2_560, 9_728, tied=True),
    "qwen3-8b": _qwen3(4_096, 12_288, tied=False),
    "mixtral-8x7b": Shape(32, 4_096, 32, 8, 128, 14_336, 32_000, experts=Experts(8, 14_336), context=32_768),
    "deepseek-v2-lite": Shape(
        *(27, 2_048, 16, 16, 128, 10_944, 102_400),
        experts=Experts(64, 1_408, shared=2, first=1), latent=Latent(512, 0, 64, 128, 128), context=163_840,
    ),
}  # fmt: skip

ENDINGS: Final = ("-instruct", "-chat", "-hf", "-base", "-it")
SAME: Final = {"llama-3.1-8b": "llama-3-8b", "llama-3.1-70b": "llama-3-70b", "meta-llama-3-8b": "llama-3-8b",
               "meta-llama-3.1-8b": "llama-3-8b", "meta-llama-3-70b": "llama-3-70b"}  # fmt: skip
"""Other names of the same shape."""


def known_shape(name: str) -> Shape:
    """Raises `CallerError` (unknown_model): pass the model's configuration instead."""
    plain = name.lower().rpartition("/")[2]
    while ending := next((ending for ending in ENDINGS if plain.endswith(ending)), ""):
        plain = plain.removesuffix(ending)
    shape = KNOWN.get(SAME.get(plain, plain))
    if shape is None:
        raise CallerError("unknown_model", f"{name[:64]!r} is not a known model", known=",".join(KNOWN))
    return shape
