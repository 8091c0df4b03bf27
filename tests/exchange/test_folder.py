"""The exported folder: written completely or not at all, read back bit for bit, and refused with one-line errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nanochat.exchange import read_folder, write_folder
from nanochat.exchange.config import from_config, to_config
from nanochat.model import GPTConfig
from nanochat.tokenizer import Tokenizer
from tests.conftest import sentences
from tests.exchange.samples import random_model

TOKENIZER = Tokenizer.train(sentences(200), 400)
FILES = {
    *("config.json", "generation_config.json", "model.safetensors"),
    *("tokenizer.json", "tokenizer_config.json", "README.md"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    gpt = random_model(depth=2, width=64)
    write_folder(tmp_path / "model", gpt, gpt.state_dict(), TOKENIZER)
    return tmp_path / "model"


@pytest.mark.parametrize("sizes", [{}, {"heads": 4, "kv_heads": 2}, {"depth": 1, "width": 256, "heads": 2}])
def test_round_trip(sizes: dict[str, int], tmp_path: Path) -> None:
    gpt = random_model(**sizes)
    write_folder(tmp_path / "model", gpt, gpt.state_dict(), TOKENIZER)
    back = read_folder(tmp_path / "model")
    assert (back.gpt.config, back.gpt.vocab_size, back.gpt.context) == (gpt.config, 400, 96)
    assert back.tokenizer.to_dict() == TOKENIZER.to_dict()
    ours = gpt.state_dict()
    assert set(back.weights) == set(ours)
    assert all(torch.equal(tensor, ours[name]) for name, tensor in back.weights.items())


def test_bfloat16_is_imported_as_float32(tmp_path: Path) -> None:
    gpt = random_model().bfloat16()
    write_folder(tmp_path / "model", gpt, gpt.state_dict(), TOKENIZER)
    weights = read_folder(tmp_path / "model").weights
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert torch.equal(weights["lm_head.weight"], gpt.lm_head.weight.float())


def test_files_and_model_card(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # all have the same permissions
    card = (folder / "README.md").read_text()
    assert f"| parameters | {random_model(depth=2, width=64).num_parameters:,} |" in card
    assert "depth 2, width 64, 1 heads of 64" in card
    assert 'AutoModelForCausalLM.from_pretrained("model")' in card
    config = json.loads((folder / "config.json").read_text())
    assert config["rms_norm_eps"] == torch.finfo(torch.float32).eps
    assert (config["bos_token_id"], config["eos_token_id"]) == (391, [395, 391])


def test_code_of_the_model_card_runs(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # type: ignore[no-untyped-def]
    code = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[0]
    assert code.count("\n") <= 8
    monkeypatch.chdir(folder.parent)
    exec(code, {})
    assert capsys.readouterr().out.startswith("The")


def test_no_chat_template_without_chat_tokens(tmp_path: Path) -> None:
    tokenizer = Tokenizer(TOKENIZER.tokens, 400, special_tokens={"<|bos|>": 399})
    gpt = random_model()
    write_folder(tmp_path / "model", gpt, gpt.state_dict(), tokenizer)
    config = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())
    assert "chat_template" not in config
    assert config["eos_token"] == "<|bos|>"
    assert "apply_chat_template" not in (tmp_path / "model" / "README.md").read_text()
    assert read_folder(tmp_path / "model").tokenizer.to_dict() == tokenizer.to_dict()


def test_overwrite(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    gpt = random_model()
    write_folder(target, gpt, gpt.state_dict(), TOKENIZER)  # an empty folder may exist
    (target / "notes.txt").write_text("mine")
    other = random_model(seed=1)
    with pytest.raises(ValueError, match="model is not empty: give another one, or --overwrite"):
        write_folder(target, other, other.state_dict(), TOKENIZER)
    assert torch.equal(read_folder(target).weights["lm_head.weight"], gpt.lm_head.weight)
    write_folder(target, other, other.state_dict(), TOKENIZER, overwrite=True)
    assert torch.equal(read_folder(target).weights["lm_head.weight"], other.lm_head.weight)
    assert (target / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    "broken", ["nanochat.exchange.folder.model_card.to_card", "nanochat.exchange.weights.save_file"]
)
@pytest.mark.parametrize("before", [False, True])
def test_failure_changes_nothing(before: bool, broken: str, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    gpt, other = random_model(), random_model(seed=1)
    if before:
        write_folder(tmp_path / "model", gpt, gpt.state_dict(), TOKENIZER)

    def fails(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(broken, fails)
    with pytest.raises(OSError, match="No space left"):
        write_folder(tmp_path / "model", other, other.state_dict(), TOKENIZER, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == (["model"] if before else [])
    if before:
        assert torch.equal(read_folder(tmp_path / "model").weights["lm_head.weight"], gpt.lm_head.weight)


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("model_type", "gpt2"),
        ("hidden_act", "silu"),
        ("final_logit_softcapping", None),
        ("final_logit_softcapping", 30.0),
        ("tie_word_embeddings", True),
        ("attention_bias", True),
        ("attention_dropout", 0.1),
        ("intermediate_size", 100),
        ("rms_norm_eps", 1e-3),
        ("head_dim", 32),
        ("head_dim", {}),
        ("hidden_size", "wide"),
        ("num_hidden_layers", 0),
        ("num_hidden_layers", 1_000_000_000),
        ("vocab_size", None),
    ],
)
def test_unsupported_settings_are_refused(setting: str, value: Any, folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), setting: value}))
    with pytest.raises(ValueError, match=f"config.json: {setting} is {value!r}"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("rope_theta is 500000", {"rope_parameters": {"rope_theta": 500_000}}),
        ("rope_theta is 100000.0", {"rope_theta": 1e5, "rope_parameters": None}),
        ("rope_type is 'yarn'", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}),
        ("rope_parameters is 5 and", {"rope_parameters": 5}),
        ("rope_type is 'linear'", {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2}}),
        ("a width of 64 does not divide into 5 heads", {"num_attention_heads": 5}),
        ("2 query heads do not divide into groups for 3", {"num_attention_heads": 2, "num_key_value_heads": 3}),
    ],
)
def test_unsupported_positions_and_sizes(message: str, changes: dict[str, Any]) -> None:
    config = to_config(random_model(width=64), TOKENIZER, torch.float32)
    assert from_config(config).config.n_embd == 64
    with pytest.raises(ValueError, match=message):
        from_config({**config, **changes})


def test_missing_settings_have_the_defaults_of_transformers() -> None:
    gpt = from_config({"model_type": "nanochat", "intermediate_size": 3072})
    assert gpt.config == GPTConfig(sequence_len=2048, vocab_size=50_304, n_layer=12, n_head=6, n_kv_head=6, n_embd=768)


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("lacks 1 of 14 tensors, the first of them lm_head.weight", lambda t: t.pop("lm_head.weight")),
        ("has a tensor that this model does not have: value_embeds", lambda t: t.update(value_embeds=torch.ones(3))),
        (
            "model.layers.1.mlp.fc1.weight has the shape [3, 3], but config.json says [256, 64]",
            lambda t: t.update({"model.layers.1.mlp.fc1.weight": torch.ones(3, 3)}),
        ),
        (
            "lm_head.weight is of torch.int8; quantized",
            lambda t: t.update({"lm_head.weight": t["lm_head.weight"].to(torch.int8)}),
        ),
    ],
)
def test_weights_that_do_not_fit(message: str, change: Callable[..., object], folder: Path) -> None:
    change_weights(folder, change)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read_folder(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "text", "list", "deep"])
def test_damaged_files_are_refused(name: str, damage: str, folder: Path) -> None:
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        damaged = {"empty": b"", "half": content[: len(content) // 2], "text": b"\xffnothing", "list": b"[1]"}
        path.write_bytes(damaged.get(damage, b"[" * 100_000))
    with pytest.raises(ValueError, match=name) as error:
        read_folder(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("missing", "pickled"), [("model.safetensors", "pytorch_model.bin"), ("tokenizer.json", "tokenizer.pkl")]
)
def test_pickles_are_never_read(missing: str, pickled: str, folder: Path) -> None:
    (folder / missing).unlink()
    (folder / pickled).mkdir()  # opening it would raise a different error
    with pytest.raises(ValueError, match=f"no {missing}, and its {pickled} is a pickle, which is never read here"):
        read_folder(folder)


def test_index_cannot_name_files_outside(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "../outside.safetensors"}}))
    with pytest.raises(ValueError, match="names files outside its folder"):
        read_folder(folder)
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "gone.safetensors"}}))
    with pytest.raises(ValueError, match="there is no .*gone.safetensors"):
        read_folder(folder)
    index.write_text("[]")
    with pytest.raises(ValueError, match="index.json is not the index"):
        read_folder(folder)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder .*nowhere"):
        read_folder(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    gpt = random_model()
    with pytest.raises(ValueError, match="is a file, not a folder"):
        write_folder(tmp_path / "file", gpt, gpt.state_dict(), TOKENIZER)
