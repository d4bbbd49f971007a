"""Parameters, weights and cache from a configuration: to the last parameter."""

from __future__ import annotations

import pytest

from bursar.errors import CallerError
from bursar_gpu_manager.known_models import KNOWN, known_shape
from bursar_gpu_manager.models import FORMATS, form_of, shape_of

GIB = 1 << 30

TABLE = {
    # parameters, fp16 GiB, layers, kv heads, head size, KiB per token, MiB at 4096, MiB at 8192
    "opt-1.3b": (1_315_758_080, 2.4508, 24, 32, 64, 192, 768, 1536),
    "opt-2.7b": (2_651_596_800, 4.9390, 32, 32, 80, 320, 1280, 2560),
    "opt-6.7b": (6_658_473_984, 12.4024, 32, 32, 128, 512, 2048, 4096),
    "llama-2-7b": (6_738_415_616, 12.5513, 32, 32, 128, 512, 2048, 4096),
    "llama-2-13b": (13_015_864_320, 24.2439, 40, 40, 128, 800, 3200, 6400),
    "llama-3-8b": (8_030_261_248, 14.9575, 32, 8, 128, 128, 512, 1024),
    "llama-3-70b": (70_553_706_496, 131.4165, 80, 8, 128, 320, 1280, 2560),
    "qwen2.5-0.5b": (494_032_768, 0.9202, 24, 2, 64, 12, 48, 96),
    "qwen2.5-1.5b": (1_543_714_304, 2.8754, 28, 2, 128, 28, 112, 224),
    "qwen2.5-7b": (7_615_616_512, 14.1852, 28, 4, 128, 56, 224, 448),
    "qwen2.5-32b": (32_763_876_352, 61.0275, 64, 8, 128, 256, 1024, 2048),
    "qwen3-4b": (4_022_468_096, 7.4924, 36, 8, 128, 144, 576, 1152),
    "qwen3-8b": (8_190_735_360, 15.2564, 36, 8, 128, 144, 576, 1152),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_models_is_exact(name: str) -> None:
    """Parameters to the last one, weights in GiB to four digits, cache per token and at two lengths."""
    shape = KNOWN[name]
    kv = shape.kv_per_token()
    found = (shape.parameters, round(shape.weight_bytes() / GIB, 4), shape.layers, shape.kv_heads, shape.head_dim,
             kv / 1024, 4_096 * kv / 2**20, 8_192 * kv / 2**20)  # fmt: skip
    assert found == TABLE[name]


QWEN3_4B = {
    "model_type": "qwen3", "hidden_size": 2560, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "num_hidden_layers": 36, "intermediate_size": 9728, "vocab_size": 151936, "tie_word_embeddings": True,
    "max_position_embeddings": 40960,
}  # fmt: skip


def test_the_size_of_a_head_is_read_not_guessed() -> None:
    """2560 / 32 is 80, and the heads of Qwen3-4B have 128: guessing would be 37 % short."""
    assert shape_of(QWEN3_4B) == KNOWN["qwen3-4b"]
    guessed = {key: value for key, value in QWEN3_4B.items() if key != "head_dim"}
    assert shape_of(guessed).head_dim == 80


def test_families_are_read_as_they_are() -> None:
    """OPT has its own names; Qwen2 has biases unless it says otherwise; a missing number of KV heads means all."""
    opt = {"model_type": "opt", "hidden_size": 2048, "num_attention_heads": 32, "num_hidden_layers": 24,
           "ffn_dim": 8192, "vocab_size": 50272, "max_position_embeddings": 2048}  # fmt: skip
    assert shape_of(opt) == KNOWN["opt-1.3b"]
    qwen = {**QWEN3_4B, "model_type": "qwen2", "head_dim": None, "hidden_size": 3584, "num_attention_heads": 28,
            "num_key_value_heads": 4, "num_hidden_layers": 28, "intermediate_size": 18944, "vocab_size": 152064,
            "tie_word_embeddings": False, "max_position_embeddings": 32768}  # fmt: skip
    assert shape_of(qwen) == KNOWN["qwen2.5-7b"]
    assert shape_of({**QWEN3_4B, "num_key_value_heads": None}).kv_heads == 32


def test_experts_are_counted_in_full_and_a_latent_cache_is_small() -> None:
    """Counts as published, of Mixtral, Qwen3-30B-A3B, DeepSeek-V2-Lite and V3; MLA caches 576 numbers per layer."""
    assert KNOWN["mixtral-8x7b"].parameters == 46_702_792_704
    mixtral = {"model_type": "mixtral", "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
               "num_hidden_layers": 32, "intermediate_size": 14336, "num_local_experts": 8,
               "vocab_size": 32000}  # fmt: skip
    assert shape_of(mixtral).parameters == 46_702_792_704
    qwen = {**QWEN3_4B, "model_type": "qwen3_moe", "hidden_size": 2048, "num_key_value_heads": 4,
            "num_hidden_layers": 48, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_experts": 128,
            "tie_word_embeddings": False}  # fmt: skip
    assert shape_of(qwen).parameters == 30_532_122_624
    assert KNOWN["deepseek-v2-lite"].parameters == 15_706_484_224
    v3 = {"model_type": "deepseek_v3", "hidden_size": 7168, "num_attention_heads": 128, "num_hidden_layers": 61,
          "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1,
          "first_k_dense_replace": 3, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
          "qk_nope_head_dim": 128, "v_head_dim": 128, "vocab_size": 129280}  # fmt: skip
    assert shape_of(v3).parameters == 671_026_419_200
    assert shape_of(v3).kv_per_token() == 61 * 576 * 2
    dense = {**v3, "n_routed_experts": None}
    assert shape_of(dense).experts is None


def test_quantisation_shrinks_matrices_and_a_gguf_file_everything() -> None:
    """Llama-3-8B: FP8 halves all but embeddings and norms; AWQ is 5.3 GiB; Q4_K_M as the published file, 4.58."""
    shape = KNOWN["llama-3-8b"]
    assert shape.weight_bytes("fp8") == shape.linear + 2 * shape.rest
    assert round(shape.weight_bytes("awq") / GIB, 2) == 5.33
    assert round(shape.weight_bytes("q4_k_m") / GIB, 2) == 4.58
    assert shape.weight_bytes("fp32") == 4 * shape.parameters
    with pytest.raises(CallerError) as error:
        shape.weight_bytes("fp3")
    assert error.value.code == "unknown_format"


def test_shards_divide_weights_and_heads_but_no_latent_cache() -> None:
    """Eight cards hold an eighth; sixteen cards of a model with eight KV heads hold one head each, not half a one."""
    shape = KNOWN["llama-3-70b"]
    assert shape.weight_bytes("bf16", 8) == -(-2 * shape.parameters // 8)
    assert shape.kv_per_token(2, 8) * 8 == shape.kv_per_token()
    assert shape.kv_per_token(2, 16) == shape.kv_per_token(2, 8)
    assert KNOWN["deepseek-v2-lite"].kv_per_token(2, 8) == KNOWN["deepseek-v2-lite"].kv_per_token()


NAMES = ["meta-llama/Llama-3.1-8B-Instruct", "LLAMA-3-8B", "meta-llama/Meta-Llama-3-8B-chat-hf"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_known_without_owner_case_and_ending(name: str) -> None:
    """Agents say names as the hubs do."""
    assert known_shape(name) is KNOWN["llama-3-8b"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model_type": "bert"}, "unsupported_model"),
        ({"model_type": None}, "unsupported_model"),
        ({"hidden_size": "2560"}, "bad_config"),
        ({"hidden_size": None}, "bad_config"),
        ({"vocab_size": -1}, "bad_config"),
        ({"vocab_size": True}, "bad_config"),
        ({"num_attention_heads": 0}, "bad_config"),
        ({"head_dim": 2**60}, "bad_config"),
        ({"head_dim": None, "num_attention_heads": 24}, "bad_config"),
        ({"num_key_value_heads": 3}, "bad_config"),
        ({"num_key_value_heads": 64}, "bad_config"),
        ({"tie_word_embeddings": "false"}, "bad_config"),
        ({"model_type": "opt", "word_embed_proj_dim": 512}, "unsupported_model"),
    ],
)
def test_what_cannot_be_counted_is_refused(change: dict[str, object], code: str) -> None:
    """No number is better than a wrong one."""
    with pytest.raises(CallerError) as error:
        shape_of({**QWEN3_4B, **change})
    assert error.value.code == code


def test_an_unknown_name_is_refused() -> None:
    """And the error says which are known."""
    with pytest.raises(CallerError) as error:
        known_shape("gpt-17")
    assert error.value.code == "unknown_model"
    assert "llama-3-8b" in error.value.facts["known"]


def published(kind: str, *numbers: int, **more: object) -> dict[str, object]:
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size",
             "vocab_size")  # fmt: skip
    return {"model_type": kind, **dict(zip(names, numbers, strict=True)), **more}


MOE = {"head_dim": 128, "num_experts": 128}


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (published("llama", 2048, 16, 32, 8, 8192, 128_256, head_dim=64, tie_word_embeddings=True), 1_235_814_400),
        (published("llama", 16_384, 126, 128, 8, 53_248, 128_256), 405_853_388_800),
        (published("mistral", 5120, 40, 32, 8, 14_336, 131_072, head_dim=128), 12_247_782_400),
        (published("mixtral", 6144, 56, 48, 8, 16_384, 32_768, num_local_experts=8), 140_630_071_296),
        (published("phi3", 3072, 32, 32, 32, 8192, 32_064), 3_821_079_552),
        (published("qwen2", 8192, 80, 64, 8, 29_568, 152_064), 72_706_203_648),
        (published("qwen3_moe", 2048, 48, 32, 4, 6144, 151_936, **MOE, moe_intermediate_size=768), 30_532_122_624),
    ],
)
def test_models_that_have_no_name_here_are_counted_to_the_last_parameter(
    config: dict[str, object], parameters: int
) -> None:
    """As their checkpoints were published."""
    assert shape_of(config).parameters == parameters


@pytest.mark.parametrize(
    ("config", "form"),
    [
        ({}, "fp16"),
        ({"torch_dtype": "bfloat16"}, "bf16"),
        ({"dtype": "torch.float32"}, "fp32"),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, "fp8"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 8, "group_size": -1}}, "gptq8"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 32}}, "gptq-32"),
        ({"quantization_config": {"quant_method": "awq", "w_bit": 4, "group_size": 64}}, "awq-64"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "nf4"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "int8"),
    ],
)
def test_the_format_is_read_from_the_configuration(config: dict[str, object], form: str) -> None:
    """Quantisation before the number format."""
    assert form_of(config) == form
    assert form in FORMATS


@pytest.mark.parametrize(
    "config",
    [
        {"torch_dtype": "float4"},
        {"quantization_config": {"quant_method": "gptq", "bits": 3}},
        {"quantization_config": {"quant_method": "awq", "bits": [4]}},
        {"quantization_config": {"quant_method": ["awq"]}},
        {"quantization_config": "awq"},
    ],
)
def test_a_format_that_is_not_counted_is_refused(config: dict[str, object]) -> None:
    """Rather than taken for another one."""
    with pytest.raises(CallerError) as error:
        form_of(config)
    assert error.value.code == "unknown_format"
