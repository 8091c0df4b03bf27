"""transformers loads an exported model without custom code and gives the same results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from nanochat.exchange import read_folder, write_folder
from nanochat.model import GPT
from nanochat.tokenizer import SPECIAL_TOKENS
from tests.exchange.samples import random_model, random_texts, tokenizers

TOKENIZERS = tokenizers()
SHAPES: dict[str, dict[str, int]] = {
    "heads of 64": {},
    "heads of 128": {"depth": 1, "width": 256, "heads": 2},
    "grouped queries": {"width": 128, "heads": 4, "kv_heads": 2},
    "one key/value head": {"depth": 3, "width": 96, "heads": 6, "kv_heads": 1, "context": 33},
}


def export(folder: Path, gpt: GPT, name: str = "english") -> Path:
    write_folder(folder, gpt, gpt.state_dict(), TOKENIZERS[name])
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("export") / "model", random_model())


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("sizes", SHAPES.values(), ids=SHAPES)
def test_logits_are_equal(sizes: dict[str, int], tmp_path: Path) -> None:
    gpt = random_model(**sizes)
    model, report = AutoModelForCausalLM.from_pretrained(export(tmp_path / "model", gpt), output_loading_info=True)
    assert not any(report.values()), report  # no missing or unexpected tensors
    assert type(model).__module__.startswith("transformers.")
    assert model.num_parameters() == gpt.num_parameters
    ids = torch.randint(0, gpt.vocab_size, (3, gpt.context))
    with torch.inference_mode():
        ours, logits = gpt(ids), model(ids).logits
    assert ours.std() > 0.5  # not trivially equal
    assert logits.dtype == torch.float32
    assert (logits - ours).abs().max() < 1e-4


def test_bfloat16_stays_bfloat16(tmp_path: Path) -> None:
    gpt = random_model().bfloat16()
    model = AutoModelForCausalLM.from_pretrained(export(tmp_path / "model", gpt))
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert torch.equal(model.lm_head.weight, gpt.lm_head.weight)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokens_are_equal(name: str, tmp_path: Path) -> None:
    ours = TOKENIZERS[name]
    gpt = random_model(ours.vocab_size, depth=1, width=64)
    theirs = AutoTokenizer.from_pretrained(export(tmp_path / "model", gpt, name))
    texts = random_texts(10_000 if name == "english" else 2_400, seed=len(name))
    assert len(set(texts)) > 0.9 * len(texts)
    whole = theirs(texts, split_special_tokens=True).input_ids
    different = [text for text, ids in zip(texts, whole, strict=True) if ids != ours.encode(text)]
    assert not different, different[:3]
    plain = texts[:100]
    assert theirs(plain).input_ids == theirs(plain, add_special_tokens=False).input_ids == whole[:100]
    assert theirs.batch_decode(whole) == texts


@pytest.mark.parametrize("name", TOKENIZERS)
def test_decoded_texts_are_equal(name: str, tmp_path: Path) -> None:
    """Includes invalid UTF-8, special tokens and unused ids, which a model may generate."""
    ours = TOKENIZERS[name]
    gpt = random_model(ours.vocab_size, depth=1, width=64)
    theirs = AutoTokenizer.from_pretrained(export(tmp_path / "model", gpt, name))
    assert theirs.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(ours.special_tokens.values())
    assert theirs.bos_token_id == ours.bos
    for ids in torch.randint(0, ours.vocab_size, (1000, 30), generator=torch.Generator().manual_seed(1)).tolist():
        assert theirs.decode(ids, skip_special_tokens=True) == ours.decode(ids)


def test_special_tokens_are_equal(theirs: Any) -> None:
    ours = TOKENIZERS["english"]
    assert theirs.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(ours.special_tokens.values())
    assert len(theirs) == ours.vocab_size
    assert (theirs.bos_token, theirs.eos_token) == ("<|bos|>", "<|assistant_end|>")
    text = "the <|bos|> model<|user_end|>"
    parts = [ours.encode("the "), [ours.bos], ours.encode(" model"), [ours.special_tokens["<|user_end|>"]]]
    assert theirs(text).input_ids == [i for part in parts for i in part]
    assert theirs(text, split_special_tokens=True).input_ids == ours.encode(text)


def test_chat_template(theirs: Any) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": " What is 2 + 2?\n"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "It is "},
                {"type": "python", "text": "2 + 2"},
                {"type": "python_output", "text": "4"},
                {"type": "text", "text": "4."},
            ],
        },
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": "Yes."},
    ]
    first = (
        "<|bos|><|user_start|>Be kind.\n\n What is 2 + 2?\n<|user_end|>"
        "<|assistant_start|>It is <|python_start|>2 + 2<|python_end|><|output_start|>4<|output_end|>4.<|assistant_end|>"
    )
    second = "<|user_start|>Sure?<|user_end|><|assistant_start|>"
    assert theirs.apply_chat_template(messages, tokenize=False) == f"{first}{second}Yes.<|assistant_end|>"
    asked = theirs.apply_chat_template(messages[:4], tokenize=False, add_generation_prompt=True)
    assert asked == first + second
    ids = theirs.apply_chat_template(messages[:4], add_generation_prompt=True).input_ids
    ours = TOKENIZERS["english"]
    assert [i for i in ids if i >= ours.bos] == [
        ours.special_tokens[f"<|{name}|>"]
        for name in (
            *("bos", "user_start", "user_end", "assistant_start", "python_start", "python_end", "output_start"),
            *("output_end", "assistant_end", "user_start", "user_end", "assistant_start"),
        )
    ]


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([{"role": "tool", "content": "x"}], "there is no role tool"),
        ([{"role": "user", "content": "x"}, {"role": "system", "content": "x"}], "can only come first"),
        ([{"role": "system", "content": "x"}, {"role": "assistant", "content": "x"}], "comes the user"),
        ([{"role": "assistant", "content": [{"type": "image", "text": "x"}]}], "no part of type image"),
    ],
)
def test_invalid_conversations_are_refused(theirs: Any, messages: list[dict[str, Any]], error: str) -> None:
    with pytest.raises(Exception, match=error):
        theirs.apply_chat_template(messages, tokenize=False)


def test_generation(folder: Path, theirs: Any) -> None:
    gpt = random_model()
    model = AutoModelForCausalLM.from_pretrained(folder)
    ours = TOKENIZERS["english"]
    config = model.generation_config
    assert config.bos_token_id == config.pad_token_id == ours.bos
    assert config.eos_token_id == [ours.special_tokens["<|assistant_end|>"], ours.bos]
    prompt = theirs("<|bos|>the model", return_tensors="pt")
    ids = model.generate(**prompt, max_new_tokens=30, do_sample=False)[0].tolist()
    wanted = prompt.input_ids[0].tolist()
    while len(wanted) < len(ids):
        wanted.append(int(gpt(torch.tensor([wanted]))[0, -1].argmax()))
    assert ids == wanted
    assert len(ids) == prompt.input_ids.size(1) + 30 or ids[-1] in config.eos_token_id


def test_import_of_a_model_saved_by_transformers(folder: Path, theirs: Any, tmp_path: Path) -> None:
    """transformers omits default settings, moves the chat template, and may split the weights into several files."""
    gpt = random_model()
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path, max_shard_size="300KB")
    theirs.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    back = read_folder(tmp_path)
    assert back.gpt.config == gpt.config
    assert all(torch.equal(back.weights[name], tensor) for name, tensor in gpt.state_dict().items())
    assert back.tokenizer.fingerprint == TOKENIZERS["english"].fingerprint


def test_import_of_a_model_made_by_transformers(tmp_path: Path) -> None:
    """Its default epsilon differs, which has no effect at the scale of nanochat's embeddings."""
    config = transformers.NanoChatConfig(
        vocab_size=400, hidden_size=96, intermediate_size=384, num_hidden_layers=2, num_attention_heads=3
    )
    torch.manual_seed(0)
    model = transformers.NanoChatForCausalLM(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=1.5 * parameter.size(-1) ** -0.5)
    torch.nn.init.normal_(model.model.embed_tokens.weight)
    model.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(export(tmp_path / "other", random_model()))
    tokenizer.save_pretrained(tmp_path)
    back = read_folder(tmp_path)
    assert back.gpt.vocab_size == 400
    gpt = GPT(back.gpt.config)
    gpt.load_state_dict(back.weights)
    ids = torch.randint(0, 400, (2, 64))
    with torch.inference_mode():
        assert (model(ids).logits - gpt(ids)).abs().max() < 1e-4
