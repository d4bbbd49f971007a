"""What a model weighs, from its configuration alone: parameters, bytes of weights, bytes of KV cache per token.

A `Shape` is what of a Hugging Face ``config.json`` memory depends on. Its numbers are exact: parameter counts are those
of the published checkpoints, to the last one. The size of a head is always read (``head_dim``) and only where the
configuration has none it is hidden size over heads: Qwen3-4B has 2560 / 32 = 80 and heads of 128.

Parameters are told apart by what quantisation does to them: ``linear`` (the matrices inside the layers; AWQ, GPTQ,
bitsandbytes and FP8 shrink these alone) and the rest (embeddings, head, norms, biases; a GGUF file shrinks all).
Experts count in full, as all of them are loaded. A latent cache (DeepSeek's MLA) holds one compressed vector and one
rotary key per token and layer, whatever the number of heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from bursar.errors import CallerError

OPT_POSITIONS: Final = 2_050
"""Learned positions of OPT: 2048 and an offset of two."""


class Experts(NamedTuple):
    """``number`` experts of width ``ffn`` in every layer from the ``first``; ``shared``: so many more for all tokens;
    ``bias``: the router has a correction per expert."""

    number: int
    ffn: int
    shared: int = 0
    first: int = 0
    bias: bool = False


class Latent(NamedTuple):
    """Multi-head latent attention: rank of the cached vector, of the queries (0: not compressed), and head sizes."""

    kv_rank: int
    q_rank: int
    rope: int
    nope: int
    value: int


@dataclass(frozen=True)
class Shape:
    """Everything is a count. ``tied``: the head is the embedding. ``qkv_bias``, ``qk_norm``: as the family has it."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    family: Literal["llama", "opt"] = "llama"
    tied: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    experts: Experts | None = None
    latent: Latent | None = None
    context: int = 0

    @property
    def parameters(self) -> int:
        return self.linear + self.rest

    @property
    def linear(self) -> int:
        """Parameters in the matrices of the layers."""
        if self.family == "opt":
            return self.layers * (4 * self.hidden**2 + 2 * self.hidden * self.ffn)
        return self.layers * self._attention + self._feed_forward

    @property
    def rest(self) -> int:
        """Embeddings, head, norms, biases, routers."""
        h, layers = self.hidden, self.layers
        tables = self.vocab * h * (1 if self.tied else 2)
        if self.family == "opt":
            return tables + OPT_POSITIONS * h + layers * (4 * h + self.ffn + h + 4 * h) + 2 * h
        bias = (self.heads + 2 * self.kv_heads) * self.head_dim if self.qkv_bias else 0
        norms = 2 * h + (2 * self.head_dim if self.qk_norm else 0)
        if self.latent is not None:
            norms += self.latent.kv_rank + self.latent.q_rank
        return tables + layers * (norms + bias) + self._routers + h

    @property
    def _attention(self) -> int:
        h, own = self.hidden, self.latent
        if own is None:
            return 2 * h * self.heads * self.head_dim + 2 * h * self.kv_heads * self.head_dim
        key = own.nope + own.rope
        queries = own.q_rank * (h + self.heads * key) if own.q_rank else h * self.heads * key
        cached = h * (own.kv_rank + own.rope) + own.kv_rank * self.heads * (own.nope + own.value)
        return queries + cached + self.heads * own.value * h

    @property
    def _feed_forward(self) -> int:
        if self.experts is None:
            return self.layers * 3 * self.hidden * self.ffn
        sparse = self.layers - self.experts.first
        width = (self.experts.number + self.experts.shared) * self.experts.ffn
        return 3 * self.hidden * (self.experts.first * self.ffn + sparse * width)

    @property
    def _routers(self) -> int:
        if self.experts is None:
            return 0
        each = self.hidden * self.experts.number + (self.experts.number if self.experts.bias else 0)
        return (self.layers - self.experts.first) * each

    def kv_per_token(self, kv_bytes: int = 2, shards: int = 1) -> int:
        """Bytes of cache of one token on one of ``shards`` devices; ``kv_bytes``: of one number. Heads are divided as
        far as there are so many, and a latent cache is not divided at all."""
        if self.latent is not None:
            return self.layers * (self.latent.kv_rank + self.latent.rope) * kv_bytes
        return 2 * self.layers * -(-self.kv_heads // shards) * self.head_dim * kv_bytes

    def weight_bytes(self, form: str = "fp16", shards: int = 1) -> int:
        """Bytes of weights on one of ``shards`` devices; `CallerError` (unknown_format) if the form is not known."""
        chosen = FORMATS.get(form)
        if chosen is None:
            raise CallerError("unknown_format", f"the format {form!r} is not known", known=",".join(FORMATS))
        linear = self.linear * chosen.bits
        rest = self.rest * (chosen.bits if chosen.whole else max(chosen.rest, 0))
        return -(-(linear + rest) // (8 * UNIT * shards))


UNIT: Final = 10_000
"""Bits of a weight are counted in ten thousandths."""


class Format(NamedTuple):
    """``bits``: per weight of a matrix, scales included, in ten thousandths; ``rest``: of everything else;
    ``whole``: the rest is shrunk as well."""

    bits: int
    rest: int = 16 * UNIT
    whole: bool = False


FORMATS: Final[Mapping[str, Format]] = {
    "fp32": Format(32 * UNIT, 32 * UNIT),
    "fp16": Format(16 * UNIT),
    "bf16": Format(16 * UNIT),
    "fp8": Format(8 * UNIT),
    "int8": Format(8 * UNIT),
    "gptq": Format(41_563),  # 4 bits, and 16 + 4 bits of scale and zero per 128 weights
    "gptq-64": Format(43_125),
    "gptq-32": Format(46_250),
    "gptq8": Format(81_875),  # 8 bits, and 16 + 8 bits per 128 weights
    "awq": Format(41_563),
    "awq-64": Format(43_125),
    "awq-32": Format(46_250),
    "nf4": Format(45_000),  # 4 bits, and a scale of 32 bits per 64 weights
    "q8_0": Format(85_000, whole=True),  # 32 weights and a scale of 16 bits
    "q6_k": Format(65_625, whole=True),
    "q5_k_m": Format(57_000, whole=True),  # the mixes: file size of Llama-3-8B over its parameters
    "q4_k_m": Format(49_000, whole=True),
    "q4_0": Format(46_400, whole=True),
    "q3_k_m": Format(40_000, whole=True),
    "q2_k": Format(31_700, whole=True),
}

KV_BYTES: Final[Mapping[str, int]] = {"fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1}
"""Bytes of a number in the cache."""

DTYPES: Final[Mapping[str, str]] = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "half": "fp16"}


GROUPED: Final[Mapping[str, Mapping[str, str]]] = {
    "gptq": {"4/128": "gptq", "4/-1": "gptq", "4/64": "gptq-64", "4/32": "gptq-32", "8/128": "gptq8", "8/-1": "gptq8"},
    "awq": {"4/128": "awq", "4/64": "awq-64", "4/32": "awq-32"},
}
"""By method, and bits over weights in a group (-1: all of a row)."""


def form_of(config: Mapping[str, Any]) -> str:
    """The format of the weights that a ``config.json`` is of: its quantisation, or its number format; fp16 where it has
    neither. Raises `CallerError` (unknown_format) for what is not counted here."""
    quantized = config.get("quantization_config")
    if not quantized:
        kind = str(config.get("torch_dtype") or config.get("dtype") or "float16").removeprefix("torch.")
        if kind not in DTYPES:
            raise CallerError("unknown_format", f"weights as {kind[:32]!r} are not known", known=",".join(DTYPES))
        return DTYPES[kind]
    told = quantized if isinstance(quantized, Mapping) else {}
    method = str(told.get("quant_method"))
    if method == "bitsandbytes":
        return "nf4" if told.get("load_in_4bit") else "int8"
    kind = f"{told.get('bits', told.get('w_bit', 4))}/{told.get('group_size', 128)}"
    found = "fp8" if method == "fp8" else GROUPED.get(method, {}).get(kind)
    if found is None:
        raise CallerError("unknown_format", f"weights quantised by {method[:32]!r} in this way are not known")
    return found


PLAIN: Final = frozenset({"llama", "mistral", "qwen2", "qwen3", "phi3"})
EXPERT: Final = frozenset({"mixtral", "qwen3_moe"})
LATENT: Final = frozenset({"deepseek_v2", "deepseek_v3"})


def shape_of(config: Mapping[str, Any]) -> Shape:
    """Read a ``config.json``. Raises `CallerError`: ``unsupported_model`` (a family whose parameters are not counted
    here: no number is better than a wrong one), ``bad_config`` (a number is missing or makes no sense)."""
    kind = config.get("model_type")
    if kind == "opt":
        return _opt(config)
    if kind not in PLAIN | EXPERT | LATENT:
        raise CallerError("unsupported_model", f"models of the type {str(kind)[:64]!r} are not known")
    hidden, heads = _number(config, "hidden_size"), _number(config, "num_attention_heads")
    return Shape(
        layers=_number(config, "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=_shared(heads, _number(config, "num_key_value_heads", heads)),
        head_dim=_head_dim(config, hidden, heads),
        ffn=_number(config, "intermediate_size"),
        vocab=_number(config, "vocab_size"),
        tied=_flag(config, "tie_word_embeddings", False),
        qkv_bias=_flag(config, "attention_bias", kind == "qwen2"),
        qk_norm=kind in {"qwen3", "qwen3_moe"},
        experts=_experts(config, str(kind)),
        latent=_latent(config) if kind in LATENT else None,
        context=_number(config, "max_position_embeddings", 0, least=0),
    )


def _opt(config: Mapping[str, Any]) -> Shape:
    hidden, heads = _number(config, "hidden_size"), _number(config, "num_attention_heads")
    if config.get("word_embed_proj_dim", hidden) != hidden:
        raise CallerError("unsupported_model", "an OPT whose embedding is projected is not known")
    layers, ffn = _number(config, "num_hidden_layers"), _number(config, "ffn_dim")
    context = _number(config, "max_position_embeddings", 0, least=0)
    vocab = _number(config, "vocab_size")
    return Shape(
        layers, hidden, heads, heads, _head_dim(config, hidden, heads), ffn, vocab, "opt", tied=True, context=context
    )


def _experts(config: Mapping[str, Any], kind: str) -> Experts | None:
    if kind == "mixtral":
        return Experts(_number(config, "num_local_experts"), _number(config, "intermediate_size"))
    if kind == "qwen3_moe":
        return Experts(_number(config, "num_experts"), _number(config, "moe_intermediate_size"))
    if kind not in LATENT or not config.get("n_routed_experts"):
        return None
    return Experts(
        _number(config, "n_routed_experts"),
        _number(config, "moe_intermediate_size"),
        _number(config, "n_shared_experts", 0, least=0),
        _number(config, "first_k_dense_replace", 0, least=0),
        kind == "deepseek_v3",
    )


def _latent(config: Mapping[str, Any]) -> Latent:
    return Latent(
        _number(config, "kv_lora_rank"),
        _number({"q_lora_rank": config.get("q_lora_rank") or 0}, "q_lora_rank", least=0),
        _number(config, "qk_rope_head_dim"),
        _number(config, "qk_nope_head_dim"),
        _number(config, "v_head_dim"),
    )


def _head_dim(config: Mapping[str, Any], hidden: int, heads: int) -> int:
    if config.get("head_dim") is None and hidden % heads:
        raise CallerError("bad_config", f"{heads} heads do not divide {hidden}", field="num_attention_heads")
    return _number(config, "head_dim", hidden // heads)


def _shared(heads: int, kv_heads: int) -> int:
    """Each of the heads of the cache serves as many heads."""
    if heads % kv_heads:
        raise CallerError("bad_config", f"{kv_heads} of {heads} heads in the cache", field="num_key_value_heads")
    return kv_heads


def _flag(config: Mapping[str, Any], name: str, default: bool) -> bool:
    value = config.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise CallerError("bad_config", f"{name} is {str(value)[:32]!r}: true or false is needed", field=name)
    return value


def _number(config: Mapping[str, Any], name: str, default: int | None = None, least: int = 1) -> int:
    value = config.get(name)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 2**24:
        raise CallerError("bad_config", f"{name} is {str(value)[:32]!r}: a whole number is needed", field=name)
    return value
