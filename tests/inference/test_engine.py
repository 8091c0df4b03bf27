"""Generation of many texts in one batch: independence, calls of the calculator, and ends."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from nanochat.inference import engine as engine_module
from nanochat.inference.engine import Engine
from nanochat.inference.generation import Generation
from nanochat.inference.sampling import Sampling
from tests.inference.models import byte_tokenizer, random_gpt

TOKENIZER = byte_tokenizer()
SPECIAL = TOKENIZER.special_tokens
WARM = Sampling(1.0, None)


@pytest.fixture
def engine() -> Engine:
    return Engine(random_gpt(vocab_size=265, context=64), TOKENIZER)


def script(monkeypatch: pytest.MonkeyPatch, *tokens: int) -> None:
    """Makes the engine choose these tokens, whatever the logits are."""
    scripted = itertools.chain(tokens, itertools.repeat(SPECIAL["<|assistant_end|>"]))
    monkeypatch.setattr(engine_module, "choose", lambda logits, samplers, texts: [next(scripted) for _ in samplers])


def special(name: str) -> int:
    return SPECIAL[f"<|{name}|>"]


def generated(engine: Engine, **options: object) -> Generation:
    (generation,) = engine.start([TOKENIZER.bos], **options)  # type: ignore[arg-type]
    engine.run([generation])
    return generation


def test_batched_texts_equal_single_texts(engine: Engine) -> None:
    prompts = [[TOKENIZER.bos, *range(n)] for n in (1, 3, 9, 27)]
    lengths = [20, 5, 30, 12]

    def start(n: int) -> Generation:
        (generation,) = engine.start(prompts[n], WARM, lengths[n], seed=n)
        return generation

    alone = []
    for n in range(4):
        generation = start(n)
        engine.run([generation])
        alone.append(generation.tokens)
    together = []
    for n in range(4):
        together.append(start(n))
        for _ in range(3):
            engine.step()
    engine.run(together)
    assert [generation.tokens for generation in together] == alone
    assert engine.active == []


def test_concurrent_threads_get_independent_texts(engine: Engine) -> None:
    def generate(n: int) -> str:
        (generation,) = engine.start([TOKENIZER.bos, n], WARM, 40, seed=n)
        return "".join(text for _, text in engine.stream(generation))

    alone = [generate(n) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(generate, [*range(4)] * 10)) == alone * 10
    assert engine.active == []


def test_long_prompts_are_read_in_chunks(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    monkeypatch.setattr(engine_module, "PREFILL_CHUNK", 8)
    (short,) = engine.start([1], WARM, seed=0, max_tokens=30)
    engine.step()
    (long,) = engine.start([2] * 40, WARM, seed=0, max_tokens=3)
    for step in range(5):
        assert not long.tokens
        engine.step()
        assert len(short.tokens) == 2 + step
    assert len(long.tokens) == 1


def test_several_continuations_of_one_prompt(engine: Engine) -> None:
    generations = engine.start([5, 6, 7], WARM, 12, seed=40, count=3)
    engine.run(generations)
    assert len({tuple(generation.tokens) for generation in generations}) == 3
    for n, generation in enumerate(generations):
        (alone,) = engine.start([5, 6, 7], WARM, 12, seed=40 + n)
        engine.run([alone])
        assert alone.tokens == generation.tokens


def test_cancel_one_of_several_before_the_prompt_is_read(engine: Engine) -> None:
    first, second = engine.start([5, 6, 7], WARM, 6, seed=7, count=2)
    engine.cancel(first)
    engine.run([second])
    assert (first.finished, first.tokens) == ("cancelled", [])
    (alone,) = engine.start([5, 6, 7], WARM, 6, seed=8)
    engine.run([alone])
    assert second.tokens == alone.tokens != []
    assert engine.active == []


def test_a_cancelled_text_leaves_the_batch(engine: Engine) -> None:
    (generation,) = engine.start([1], WARM, seed=0)
    engine.step()
    engine.cancel(generation)
    assert generation.finished == "cancelled"
    assert engine.active == []
    assert engine.step() == []


def test_a_prompt_is_dropped_when_all_its_texts_are_cancelled(engine: Engine) -> None:
    generations = engine.start([TOKENIZER.bos, *range(60)], WARM, count=3)
    for generation in generations:
        engine.cancel(generation)
    assert engine.active == []


def test_a_finished_text_frees_its_kv_cache(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, *[7] * 100)  # sampled, one text in twenty would end earlier
    (kept,) = engine.start([1], WARM, 20)
    ended = engine.start([1, 2], WARM, 5, count=2)
    cancelled = engine.start([1], WARM, count=2)
    engine.run(ended)
    for generation in cancelled:
        engine.cancel(generation)
    assert [generation.stream.cache.numel() for generation in (*ended, *cancelled)] == [0, 0, 0, 0]
    assert kept.stream.cache.numel() > 0
    engine.run([kept])
    assert len(kept.tokens) == 20


def test_closing_the_iterator_cancels_the_text(engine: Engine) -> None:
    (generation,) = engine.start([1], WARM, seed=0)
    stream = engine.stream(generation)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert generation.finished == "cancelled"
    assert engine.active == []


def test_seeds(engine: Engine) -> None:
    assert generated(engine, settings=WARM, seed=3).tokens == generated(engine, settings=WARM, seed=3).tokens
    different = {tuple(generated(engine, settings=WARM).tokens) for _ in range(4)}  # each with a new seed
    assert len(different) == 4


@pytest.mark.parametrize(("prompt", "max_tokens", "expected"), [(1, 10, 10), (60, 100, 4), (63, None, 1)])
def test_max_tokens_and_context_end_a_text(
    prompt: int, max_tokens: int | None, expected: int, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, *[65] * 100)
    (generation,) = engine.start([1] * prompt, max_tokens=max_tokens)
    engine.run([generation])
    assert (generation.finished, generation.text) == ("length", "A" * expected)


@pytest.mark.parametrize("end", ["bos", "assistant_end", "user_start"])
def test_end_tokens(end: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, *b"Hi", special(end))
    generation = generated(engine)
    assert (generation.finished, generation.text, generation.tokens) == ("stop", "Hi", list(b"Hi"))


def streamed(engine: Engine, **options: object) -> list[tuple[str, str]]:
    (generation,) = engine.start([TOKENIZER.bos], **options)  # type: ignore[arg-type]
    return list(engine.stream(generation))


def test_characters_are_streamed_whole(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, *"é你🙂".encode())
    assert streamed(engine) == [("text", "é"), ("text", "你"), ("text", "🙂")]
    script(monkeypatch, 65, 0xE4, 0xBD, 66, 0xE4)  # an incomplete character, and one at the end
    assert "".join(text for _, text in streamed(engine)) == "A\N{REPLACEMENT CHARACTER}B\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one END two", ["END"], "one "),
        ("one EN", ["END"], "one EN"),
        ("a EEND b", ["END"], "a E"),
        ("x--->y", ["-->", "--"], "x"),
        ("nothing", ["END"], "nothing"),
        ("END", ["END"], ""),
    ],
)
def test_stop_texts(
    text: str, stop: Sequence[str], expected: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, *text.encode())
    pieces = streamed(engine, stop=stop)
    assert "".join(piece for _, piece in pieces) == expected


def call(expression: str) -> list[int]:
    return [special("python_start"), *expression.encode(), special("python_end")]


def answer(result: str) -> list[int]:
    return [special("output_start"), *result.encode(), special("output_end")]


def test_calculator_results_are_part_of_the_text(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, *b"It is ", *call("6*7"), *b"42.")
    (generation,) = engine.start([TOKENIZER.bos])
    pieces = list(engine.stream(generation))
    assert [piece for piece in pieces if piece[0] != "text"] == [
        ("python", "6"),
        ("python", "*"),
        ("python", "7"),
        ("python_output", "42"),
    ]
    assert generation.parts == [
        {"type": "text", "text": "It is "},
        {"type": "python", "text": "6*7"},
        {"type": "python_output", "text": "42"},
        {"type": "text", "text": "42."},
    ]
    assert generation.text == "It is 42."
    whole = [*b"It is ", *call("6*7"), *answer("42"), *b"42."]
    assert generation.tokens == whole
    assert generation.stream.ids == [TOKENIZER.bos, *whole]  # the model has read the result


@pytest.mark.parametrize("expression", ["import os", "1/0", "9" * 80])
def test_a_call_without_result_is_unanswered(expression: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, *call(expression[:40]), *b"ok")
    generation = generated(engine)
    assert generation.tokens[-2:] == list(b"ok")
    assert special("output_start") not in generation.tokens


def test_a_result_that_does_not_fit_is_dropped(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, *b"x" * 55, *call("2**40"), *b"ok")
    generation = generated(engine)
    assert special("output_start") not in generation.tokens
    assert generation.finished in ("stop", "length")


def test_invalid_requests_are_errors(engine: Engine) -> None:
    for prompt, options, error in (
        ([], {}, "at least one token"),
        ([1] * 64, {}, "no room in the context of 64"),
        ([265], {}, "outside the vocabulary"),
        ([1], {"max_tokens": 0}, "must be at least 1"),
        ([1], {"count": 0}, "must be at least 1"),
    ):
        with pytest.raises(ValueError, match=error):
            engine.start(prompt, **options)  # type: ignore[arg-type]
    assert engine.active == []


def test_repetition_penalty_covers_the_whole_text(engine: Engine) -> None:
    """With a very large penalty, no token is repeated."""
    with torch.no_grad():
        engine.decoder.gpt.lm_head.weight.abs_()
    generation = generated(Engine(engine.decoder.gpt, TOKENIZER), settings=Sampling(0.0, repetition_penalty=1e6))
    positive = generation.tokens[:20]
    assert len(set(positive)) == len(positive)
