"""The decoder says what the model says, however a text is read, and its states are independent of each other."""

from __future__ import annotations

import pytest
import torch

from nanochat.inference.decoder import PIECE, Decoder
from nanochat.model import GPT

SHAPES = {
    "plain": {},
    "grouped": {"kv_heads": 2},
    "one key": {"kv_heads": 1},
    "five heads": {"width": 80, "heads": 5},
    "grouped, odd": {"width": 96, "heads": 6, "kv_heads": 3},
    "pairs": {"ngrams": 2, "ngram_slots": 60},
    "triples": {"ngrams": 3, "ngram_slots": 60},
    "odd sizes": {"width": 42, "heads": 3, "vocab_size": 47},
}


def random_gpt(**kwargs: int) -> GPT:
    """A small model in which every weight matters."""
    torch.manual_seed(0)
    gpt = GPT(**{"depth": 3, "vocab_size": 50, "context": 32, "width": 64, "heads": 4, **kwargs})
    for p in gpt.parameters():
        torch.nn.init.normal_(p, std=p.size(-1) ** -0.5)
    return gpt


def random_ids(streams: int, time: int) -> torch.Tensor:
    return torch.randint(47, (streams, time), generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout of the weights follows the number of threads, whatever the number that computes here."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: request.param)


def assert_reads_like_the_model(decoder: Decoder, gpt: GPT, streams: int, pieces: list[int]) -> None:
    ids = random_ids(streams, sum(pieces))
    state, expected = decoder.new_state(streams), gpt(ids)
    for piece in ids.split(pieces, 1):
        logits = decoder.read(state, piece.tolist())
        torch.testing.assert_close(logits, expected[:, state.position - 1], rtol=0, atol=1e-4)
    assert state.ids == ids.tolist()


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("laid_out_for", [1, 8])
def test_each_step_gives_the_logits_of_the_model(shape: str, streams: int, laid_out_for: int) -> None:
    gpt = random_gpt(**SHAPES[shape])
    assert_reads_like_the_model(Decoder(gpt, laid_out_for), gpt, streams, [1] * 20)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("pieces", [[12, 1, 1], [1, 7, 1, 6], [4, 9, 1]])
def test_a_text_may_be_read_in_pieces(shape: str, streams: int, pieces: list[int]) -> None:
    gpt = random_gpt(**SHAPES[shape])
    assert_reads_like_the_model(Decoder(gpt), gpt, streams, pieces)


def test_long_prompts_are_read_like_short_ones() -> None:
    gpt = random_gpt(context=2 * PIECE + 10)
    assert_reads_like_the_model(Decoder(gpt), gpt, 2, [2 * PIECE + 3, 1])


def test_tiny_queries_and_streams_are_normed_with_the_models_epsilon() -> None:
    gpt = random_gpt()
    with torch.no_grad():
        for block in gpt.blocks:
            block.attention.query.weight.mul_(1e-3)
            block.attention.output.weight.mul_(1e-3)
            block.mlp.contract.weight.mul_(1e-3)
        gpt.embedding.weight.mul_(1e-6)
    for streams in (1, 2):
        assert_reads_like_the_model(Decoder(gpt), gpt, streams, [5, 1, 1])


def test_weights_in_bfloat16_are_taken_in_float32() -> None:
    gpt, ids = random_gpt(ngrams=3, ngram_slots=60).bfloat16(), random_ids(2, 9)
    decoder = Decoder(gpt)
    logits = decoder.read(decoder.new_state(2), ids.tolist())
    assert logits.dtype == torch.float32
    gpt.float()
    torch.testing.assert_close(logits, gpt(ids)[:, -1], rtol=0, atol=1e-4)


def test_autocast_changes_nothing() -> None:
    gpt, ids = random_gpt(), random_ids(2, 9).tolist()
    decoder = Decoder(gpt)
    expected = decoder.read(decoder.new_state(2), ids)
    with torch.autocast("cpu", torch.bfloat16):
        decoder = Decoder(gpt)
        assert torch.equal(decoder.read(decoder.new_state(2), ids), expected)


def test_logits_stay_as_they_were_when_the_next_step_is_taken() -> None:
    decoder = Decoder(random_gpt())
    for streams in (1, 2):
        state = decoder.new_state(streams)
        first = decoder.step(state, [3] * streams)
        kept = first.clone()
        decoder.step(state, [4] * streams)
        assert torch.equal(first, kept)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shape", ["plain", "grouped", "triples"])
def test_copies_of_a_state_go_their_own_ways(shape: str) -> None:
    gpt = random_gpt(**SHAPES[shape])
    decoder = Decoder(gpt)
    prompts = random_ids(2, 6).tolist()
    state = decoder.new_state(2)
    decoder.read(state, prompts)
    copies = {7: state.clone(), 8: state.clone()}
    texts = {token: [[*prompt, token, token + 1] for prompt in prompts] for token in copies}
    for position in (6, 7):  # by turns
        for token, copy in copies.items():
            logits = decoder.step(copy, [text[position] for text in texts[token]])
            expected = gpt(torch.tensor(texts[token]))[:, position]
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    assert state.ids == prompts


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shape", ["plain", "grouped", "triples"])
def test_a_prompt_read_once_goes_on_in_several_ways(shape: str) -> None:
    gpt = random_gpt(**SHAPES[shape])
    decoder = Decoder(gpt)
    prompts = random_ids(2, 6).tolist()
    state = decoder.new_state(2)
    decoder.read(state, prompts)
    state = state.repeated(3)
    tokens = list(range(10, 16))
    logits = decoder.step(state, tokens)
    texts = [[*prompts[stream // 3], token] for stream, token in enumerate(tokens)]
    assert state.ids == texts
    torch.testing.assert_close(logits, gpt(torch.tensor(texts))[:, -1], rtol=0, atol=1e-4)


def test_a_state_goes_back_and_on_in_another_way() -> None:
    gpt, ids = random_gpt(ngrams=3, ngram_slots=60), random_ids(1, 9)
    decoder = Decoder(gpt)
    state = decoder.new_state()
    decoder.read(state, [[*ids[0, :5].tolist(), 1, 2, 3]])
    state.rewind(5)
    logits = decoder.read(state, ids[:, 5:].tolist())
    torch.testing.assert_close(logits, gpt(ids)[:, -1], rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="token 10 of 9"):
        state.rewind(10)


def test_what_does_not_fit_is_refused_and_leaves_the_state_as_it_was() -> None:
    gpt = random_gpt()
    decoder = Decoder(gpt)
    state = decoder.new_state(2, length=8)
    decoder.read(state, [[1] * 7] * 2)
    for tokens, error in (
        ([[1, 2]] * 2, "9 tokens is longer than the state's 8"),
        ([[1]], "2 streams"),
        ([[1], [1, 2]], "2 streams"),
        ([[], []], "2 streams"),
    ):
        with pytest.raises(ValueError, match=error):
            decoder.read(state, tokens)
    with pytest.raises(IndexError):
        decoder.step(state, [1, 50])
    assert state.ids == [[1] * 7] * 2
    state = decoder.new_state(length=40)
    with pytest.raises(ValueError, match="context of 32"):
        decoder.read(state, [[1] * 33])
