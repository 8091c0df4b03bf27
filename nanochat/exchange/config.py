"""Our model's sizes as the ``config.json`` of transformers' model type "nanochat", and back."""

from __future__ import annotations

from typing import Any

import torch

from nanochat.model import GPT, GPTConfig
from nanochat.model.fused import EPS as NORM_EPS
from nanochat.model.loss import SOFTCAP
from nanochat.model.rotary import BASE as ROPE_BASE
from nanochat.tokenizer import Tokenizer

NAME = "config.json"
GENERATION_NAME = "generation_config.json"
MODEL_TYPE = "nanochat"
# transformers' own default, although nanochat is trained with our smaller one: so up to there it is no other model, and
# the logits differ in the fifth or sixth digit.
LARGEST_NORM_EPS = 1e-6

# Settings that could be otherwise there, but not here.
FIXED: dict[str, Any] = {
    "hidden_act": "relu2",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "final_logit_softcapping": SOFTCAP,
    "tie_word_embeddings": False,
}
# What transformers takes where config.json is silent: it leaves out what equals its defaults when it saves a model.
DEFAULTS: dict[str, Any] = {
    **FIXED,
    "vocab_size": 50_304,
    "hidden_size": 768,
    "intermediate_size": 8192,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "max_position_embeddings": 2048,
    "rms_norm_eps": LARGEST_NORM_EPS,
}


def to_config(gpt: GPT, tokenizer: Tokenizer, dtype: torch.dtype) -> dict[str, Any]:
    """The content of ``config.json``; all is said, because some of transformers' defaults are another model's."""
    ours = gpt.config
    return {
        "architectures": ["NanoChatForCausalLM"],
        "model_type": MODEL_TYPE,
        "vocab_size": ours.vocab_size,
        "hidden_size": ours.n_embd,
        "intermediate_size": 4 * ours.n_embd,
        "num_hidden_layers": ours.n_layer,
        "num_attention_heads": ours.n_head,
        "num_key_value_heads": ours.n_kv_head,
        "max_position_embeddings": ours.sequence_len,
        **FIXED,
        "rms_norm_eps": NORM_EPS,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_BASE},
        "bos_token_id": tokenizer.bos,
        "eos_token_id": end_ids(tokenizer),
        "pad_token_id": None,  # an id here would keep that token's embedding from learning any more
        "use_cache": True,
        "dtype": str(dtype).removeprefix("torch."),
    }


def to_generation_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of ``generation_config.json``: what ``model.generate()`` does unless told otherwise."""
    return {
        "bos_token_id": tokenizer.bos,
        "eos_token_id": end_ids(tokenizer),
        "pad_token_id": tokenizer.bos,  # fills up shorter rows of a batch, where the attention mask hides it
        "do_sample": True,
        "temperature": 0.8,
        "top_k": 50,
    }


def end_ids(tokenizer: Tokenizer) -> list[int]:
    """The tokens that end an answer, or a document: after it, another one would begin."""
    names = ("<|assistant_end|>", "<|bos|>")
    return [tokenizer.special_tokens[name] for name in names if name in tokenizer.special_tokens]


def from_config(data: dict[str, Any]) -> GPT:
    """A model of the sizes that ``config.json`` says, on the meta device: it has shapes, but no memory.

    Raises:
        ValueError: if it says another model than ours, naming the setting.
    """
    if data.get("model_type") != MODEL_TYPE:
        raise ValueError(f"model_type is {data.get('model_type')!r}: only models of type {MODEL_TYPE!r} can be read")
    said = {**DEFAULTS, **data}
    for name, value in FIXED.items():
        if said[name] != value:
            raise _refusal(name, said[name], value)
    eps = said["rms_norm_eps"]
    if not isinstance(eps, (int, float)) or not 0 <= eps <= LARGEST_NORM_EPS:
        raise _refusal("rms_norm_eps", eps, NORM_EPS)
    _check_rope(said)
    depth = _size(said, "num_hidden_layers", most=1_000)  # a block takes 10 ms to make, even without memory
    width, heads = _size(said, "hidden_size"), _size(said, "num_attention_heads")
    kv_heads = _size(said, "num_key_value_heads") if said.get("num_key_value_heads") is not None else heads
    if _size(said, "intermediate_size") != 4 * width:
        raise _refusal("intermediate_size", said["intermediate_size"], 4 * width)
    if said.get("head_dim") is not None and _size(said, "head_dim") * heads != width:
        raise _refusal("head_dim", said["head_dim"], width // heads)
    ours = GPTConfig(
        sequence_len=_size(said, "max_position_embeddings"),
        vocab_size=_size(said, "vocab_size"),
        n_layer=depth,
        n_head=heads,
        n_kv_head=kv_heads,
        n_embd=width,
    )
    with torch.device("meta"):
        return GPT(ours)


def _check_rope(said: dict[str, Any]) -> None:
    """The base and the kind of rotary positions, where transformers 5 writes them and where older files did."""
    rope, scaling = (said.get(name) or {} for name in ("rope_parameters", "rope_scaling"))
    if not isinstance(rope, dict) or not isinstance(scaling, dict):
        raise ValueError(f"rope_parameters is {rope!r} and rope_scaling {scaling!r}, not JSON objects")
    base = rope.get("rope_theta", said.get("rope_theta", ROPE_BASE))
    kind = rope.get("rope_type", scaling.get("rope_type", scaling.get("type", "default")))
    if base != ROPE_BASE:
        raise _refusal("rope_theta", base, ROPE_BASE)
    if kind != "default":
        raise _refusal("rope_type", kind, "default")


def _size(said: dict[str, Any], name: str, most: int = 2**31) -> int:
    value = said[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ValueError(f"{name} is {value!r}, not a whole number from 1 to {most:,}")
    return value


def _refusal(name: str, value: Any, ours: Any) -> ValueError:
    return ValueError(f"{name} is {value!r}, which this model cannot represent: it has {ours!r}")
