"""On a real GPU, where there is one: the numbers of a CPU, the precision of its own, and no waiting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

import nanochat
from nanochat.data.tokens.batches import Batch
from nanochat.model import GPT, GPTConfig
from nanochat.training.language_model import LanguageModel
from tests.cli.tools import command, metrics, newest, tiny_options, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

GPU, CPU = (["--trainer.devices=1", f"--trainer.accelerator={name}"] for name in ("cuda", "cpu"))
DEEPER = ["--model.depth=2", "--model.kv_heads=1"]
CURVES = ("train/loss", "train/bpb", "train/gradient_norm", "val/bpb", "val/bpb_all")


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Products in float32, as a CPU takes them."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def same_curves(one: Path, other: Path, rel: float) -> None:
    for name in CURVES:
        a, b = metrics(one, name), metrics(other, name)
        assert [step for step, _ in a] == [step for step, _ in b] != [], name
        assert [value for _, value in a] == pytest.approx([value for _, value in b], rel=rel), name


@pytest.mark.parametrize("model", [[], DEEPER], ids=["plain", "deeper"])
@pytest.mark.parametrize("compiled", ["false", "true"])
def test_a_gpu_sees_what_a_cpu_sees(corpus_folder: Path, tmp_path: Path, model: list[str], compiled: str) -> None:
    options = [*tiny_options(corpus_folder, tmp_path), *model, "--trainer.max_steps=8", "--data.vocab_size=280"]
    on_cpu = train(options, tmp_path, *CPU, "--model.compile=false")
    on_gpu = train(options, tmp_path, *GPU, f"--model.compile={compiled}")
    same_curves(on_cpu, on_gpu, 2e-3)


def test_resumed_on_a_gpu_and_taken_to_a_cpu(corpus_folder: Path, tmp_path: Path) -> None:
    options = [*tiny_options(corpus_folder, tmp_path), *DEEPER, "--model.compile=false"]
    options += ["--model.warmdown=0"]
    straight = train(options, tmp_path, *GPU, "--trainer.max_steps=6")
    train(options, tmp_path, *GPU, "--trainer.max_steps=3")
    for where in (GPU, CPU):
        onward = train(options, tmp_path, *where, "--trainer.max_steps=6", "--ckpt_path=last")
        last, whole = metrics(onward, "train/loss")[-3:], metrics(straight, "train/loss")[-3:]
        assert [v for _, v in last] == pytest.approx([v for _, v in whole], rel=1e-3)


def test_bfloat16_is_the_precision_and_comes_close(corpus_folder: Path, tmp_path: Path) -> None:
    options = [o for o in tiny_options(corpus_folder, tmp_path) if not o.startswith("--trainer.precision")]
    options += ["--trainer.max_steps=8", "--model.depth=2", "--model.kv_heads=1"]
    exact = train(options, tmp_path, *GPU, "--trainer.precision=32-true")
    result = command("fit", *options, *GPU)
    assert (result.returncode, result.stderr) == (0, "")
    assert "bf16-mixed" in (newest(tmp_path) / "config.yaml").read_text() + result.stdout
    same_curves(exact, newest(tmp_path), 0.1)


class Watch(Callback):
    """Turns any waiting for the GPU into an error, in the steps from the fourth on that are not logged."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        quiet = trainer.global_step >= 4 and (trainer.global_step + 1) % 4
        torch.cuda.set_sync_debug_mode("error" if quiet else "default")

    def on_train_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")
        self.watched = trainer.global_step


def test_no_step_waits_for_the_gpu(corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, callbacks = Watch(), LanguageModel.configure_callbacks
    monkeypatch.setattr(LanguageModel, "configure_callbacks", lambda self: [*callbacks(self), watch])  # type: ignore[misc]
    options = [*tiny_options(corpus_folder, tmp_path), "--trainer.max_steps=12", "--trainer.log_every_n_steps=4"]
    train(options, tmp_path, *GPU, "--trainer.precision=bf16-mixed", "--data.validations=1", "--model.depth=2")
    assert watch.watched == 12


def test_texts_are_those_of_a_cpu(corpus_folder: Path, tmp_path: Path) -> None:
    run = train([*tiny_options(corpus_folder, tmp_path), *DEEPER], tmp_path, *GPU, "--trainer.max_steps=40")
    texts = []
    for device in ("cpu", "cuda"):
        model = nanochat.load(run, device=device)
        texts.append([model.generate(prompt, max_tokens=20, temperature=0) for prompt in ("the model", "a row")])
    assert texts[0] == texts[1]
    assert all(texts[0])


def test_a_loss_of_many_words_is_right_in_bfloat16() -> None:
    """As at the full tier: a large vocabulary, the logits in several parts, compiled."""
    torch.manual_seed(0)
    gpt = GPT(GPTConfig.from_options(2, 65536, 256, width=256, heads=2)).cuda()
    torch.nn.init.normal_(gpt.lm_head.weight, std=0.02)
    ids, targets = torch.randint(65536, (2, 40, 256), device="cuda")
    weights = torch.full((40, 256), 1 / 10240, device="cuda")
    exact, _ = gpt.loss(ids, targets, weights)
    exact.backward()
    gradients = [p.grad.clone() for p in gpt.parameters() if p.grad is not None]
    gpt.zero_grad()
    gpt.compile_for_training()
    with torch.autocast("cuda", torch.bfloat16):
        loss, losses = gpt.loss(ids, targets, weights)
    loss.backward()
    torch.testing.assert_close(loss, exact, rtol=2e-3, atol=0)
    torch.testing.assert_close(losses.mean(), exact, rtol=2e-3, atol=0)
    for parameter, gradient in zip(gpt.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        error = (parameter.grad - gradient).norm() / gradient.norm()
        assert error < 0.05 or gradient.norm() == 0


def test_a_batch_beyond_its_memory_is_taken_in_parts(corpus_folder: Path, tmp_path: Path) -> None:
    options = [*tiny_options(corpus_folder, tmp_path), *GPU, "--data.batch_size=32768", "--trainer.max_steps=1"]
    options += ["--data.tokens_per_step=2097152", "--model.depth=12"]
    result = command("fit", *options)
    assert (result.returncode, result.stderr) == (0, "")
    assert "32768 rows at a time would need about" in result.stdout
