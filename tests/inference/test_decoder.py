"""The decoder says what the model says, however texts are read, and each text is on its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nanochat.inference import native
from nanochat.inference.native import MAX_ROWS
from tests.inference.models import WAYS, decoder, needs_compiler, random_gpt, random_ids

SHAPES = {
    "plain": {},
    "grouped": {"kv_heads": 2},
    "one key": {"kv_heads": 1},
    "five heads": {"width": 80, "heads": 5},
    "wide heads": {"width": 256, "heads": 2},
    "odd sizes": {"width": 42, "heads": 3, "vocab_size": 47},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("streams", [1, 3, 8])
def test_each_step_gives_the_logits_of_the_model(way: str, shape: str, streams: int) -> None:
    gpt, ids = random_gpt(**SHAPES[shape]), random_ids(streams, 12)
    reader, expected = decoder(gpt, way), gpt(ids)
    texts = [reader.new_stream() for _ in range(streams)]
    for place in range(12):
        logits = reader.read(texts, ids[:, place : place + 1].tolist())
        torch.testing.assert_close(logits, expected[:, place], rtol=0, atol=1e-4)
    assert [text.ids for text in texts] == ids.tolist()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_texts_of_different_lengths_are_read_together_in_pieces(way: str, shape: str) -> None:
    gpt, ids = random_gpt(**SHAPES[shape]), random_ids(3, 20)
    reader, expected = decoder(gpt, way), gpt(ids)
    texts = [reader.new_stream() for _ in range(3)]
    cuts = [(0, 12, 13, 20), (0, 1, 2, 3), (0, 5, 15, 16)]
    for n in range(3):
        logits = reader.read(texts, [row[cut[n] : cut[n + 1]].tolist() for row, cut in zip(ids, cuts, strict=True)])
        for row, cut in enumerate(cuts):
            torch.testing.assert_close(logits[row], expected[row, cut[n + 1] - 1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_long_prompts_are_read_like_short_ones(way: str) -> None:
    gpt = random_gpt(context=2 * MAX_ROWS + 10)
    reader, ids = decoder(gpt, way), random_ids(3, 2 * MAX_ROWS + 3)
    lengths = [2 * MAX_ROWS + 3, 5, MAX_ROWS]
    texts = [reader.new_stream() for _ in lengths]
    logits = reader.read(texts, [row[:length].tolist() for row, length in zip(ids, lengths, strict=True)])
    expected = gpt(ids)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(logits[row], expected[row, length - 1], rtol=0, atol=1e-4)


@needs_compiler
def test_a_text_is_the_same_to_the_last_bit_whatever_is_read_with_it() -> None:
    gpt = random_gpt(width=96, heads=6)
    reader, ids = decoder(gpt, "native"), random_ids(9, 20).tolist()

    def alone(row: list[int]) -> torch.Tensor:
        text = reader.new_stream()
        return torch.cat([reader.read([text], [[token]]) for token in row])

    texts = [reader.new_stream() for _ in ids]
    reader.read(texts, [row[:n] for n, row in enumerate(ids, 1)])
    for step in range(10):
        together = reader.read(texts, [[row[n + step]] for n, row in enumerate(ids, 1)])
        for n, row in enumerate(ids, 1):
            assert torch.equal(together[n - 1], alone(row)[n + step])


@pytest.mark.parametrize("way", WAYS)
def test_tiny_queries_and_streams_are_normed_with_the_models_epsilon(way: str) -> None:
    gpt = random_gpt()
    with torch.no_grad():
        for block in gpt.blocks:
            block.attn.c_q.weight.mul_(1e-3)
            block.attn.c_proj.weight.mul_(1e-3)
            block.mlp.c_proj.weight.mul_(1e-3)
        gpt.wte.weight.mul_(1e-6)
    reader, ids = decoder(gpt, way), random_ids(2, 6)
    logits = reader.read([reader.new_stream(), reader.new_stream()], ids.tolist())
    torch.testing.assert_close(logits, gpt(ids)[:, -1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
@pytest.mark.parametrize("way", WAYS)
def test_sharp_attention_and_logits_near_the_cap(way: str, scale: float) -> None:
    gpt = random_gpt()
    with torch.no_grad():
        gpt.lm_head.weight.mul_(scale)
        for block in gpt.blocks:
            block.attn.c_proj.weight.mul_(scale)
    reader, ids = decoder(gpt, way), random_ids(1, 20)
    torch.testing.assert_close(reader.read([reader.new_stream()], ids.tolist())[0], gpt(ids)[0, -1], rtol=0, atol=2e-4)


@needs_compiler
def test_weights_in_bfloat16_are_taken_in_float32() -> None:
    gpt, ids = random_gpt().bfloat16(), random_ids(1, 9)
    reader = decoder(gpt, "native")
    logits = reader.read([reader.new_stream()], ids.tolist())
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, gpt.float()(ids)[:, -1], rtol=0, atol=1e-4)


@needs_compiler
def test_autocast_and_later_training_change_nothing() -> None:
    gpt, ids = random_gpt(), random_ids(1, 9).tolist()
    reader = decoder(gpt, "native")
    expected = reader.read([reader.new_stream()], ids)
    with torch.no_grad():
        gpt.blocks[0].mlp.c_fc.weight.zero_()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(reader.read([reader.new_stream()], ids), expected)


@pytest.mark.parametrize("way", WAYS)
def test_forks_go_their_own_ways_and_leave_the_text_as_it_was(way: str) -> None:
    gpt, ids = random_gpt(), random_ids(1, 6)[0].tolist()
    reader = decoder(gpt, way)
    text = reader.new_stream()
    reader.read([text], [ids])
    forks = [text.fork() for _ in range(3)]
    for step in range(2):
        logits = reader.read(forks, [[10 + n + step] for n in range(3)])
        for n in range(3):
            own = [*ids, *range(10 + n, 11 + n + step)]
            torch.testing.assert_close(logits[n], gpt(torch.tensor([own]))[0, -1], rtol=0, atol=1e-4)
    assert text.ids == ids


@pytest.mark.parametrize("way", WAYS)
def test_what_does_not_fit_is_refused_and_leaves_the_texts_as_they_were(way: str) -> None:
    reader = decoder(random_gpt(), way)
    texts = [reader.new_stream(8), reader.new_stream(40)]
    reader.read(texts, [[1] * 7, [2]])
    for tokens, error in (
        ([[1, 2], [1]], "9 tokens is longer than the stream's 8"),
        ([[1], [1] * 32], "context of 32"),
        ([[1]], "2 streams"),
        ([[1], []], "2 streams"),
        ([[1], [50]], "not from 50 to 50"),
    ):
        with pytest.raises(ValueError, match=error):
            reader.read(texts, tokens)
    assert [text.ids for text in texts] == [[1] * 7, [2]]


# ------------------------------------------------------------------------------------------------ compiling it


def test_without_a_compiler_torch_does_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCHAT_CACHE", str(tmp_path))
    assert native.load.__wrapped__(build=False) is None  # nothing is compiled yet, and nothing is to be
    assert not list(tmp_path.iterdir())
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    assert native.load.__wrapped__() is None
    monkeypatch.setenv("CXX", str(tmp_path / "missing"))
    assert native.load.__wrapped__() is None
    assert not list((tmp_path / "native").iterdir())  # nothing half done stays behind


@needs_compiler
def test_it_is_compiled_once_and_kept(tmp_path: Path) -> None:
    code = "from nanochat.inference.native import load; assert load({}) is not None"
    environment = {"NANOCHAT_CACHE": str(tmp_path), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", code.format("")], check=True, env=environment)
    (library,) = (tmp_path / "native").iterdir()
    before = library.stat().st_mtime_ns
    subprocess.run([sys.executable, "-c", code.format("build=False")], check=True, env=environment)
    assert library.stat().st_mtime_ns == before
