"""Reinforcement learning: figures computed by hand, and a small model that improves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything

from nanochat.data.conversations.mixture import Mixture
from nanochat.data.conversations.question_order import MicroStep, Question, QuestionOrder, QuestionSteps
from nanochat.data.question_data import QuestionsDataModule
from nanochat.inference.engine import Engine
from nanochat.inference.generation import Generation
from nanochat.inference.sampling import Sampler, Sampling
from nanochat.model import IGNORE
from nanochat.tasks.arithmetic import Arithmetic
from nanochat.tasks.task import Item, Task, single_turn
from nanochat.tokenizer import Tokenizer, render, render_prompt
from nanochat.training import reinforce
from nanochat.training.budget.memory import onednn_memory
from nanochat.training.reinforce import Reinforce
from nanochat.training.rollout_statistics import RolloutSums, average_over_groups, logged_k, sum_over_groups
from nanochat.training.rollouts import (
    Answer,
    Group,
    Row,
    advantages,
    generate_groups,
    number_of_shapes,
    rows_with_signal,
    to_answer,
    to_tensors,
)
from tests.inference.models import byte_tokenizer, random_gpt

LETTERS = "abcd"


class Echo(Task):
    """The question is a letter, and the answer is the same letter."""

    name = "echo"

    def item(self, seed: int, index: int) -> Item:
        return single_turn(LETTERS[(seed + index) % 4], LETTERS[(seed + index) % 4])

    @property
    def held_out_count(self) -> int:
        return 8

    def held_out(self, index: int) -> Item:
        return self.item(0, index)


def answer(prompt: int, sampled: Sequence[bool], reward: float, first: int = 1) -> Answer:
    """An answer after a prompt of ``prompt`` tokens; its ids count up from ``first``."""
    flags = [False] * prompt + list(sampled)
    return Answer([first + i for i in range(len(flags))], flags, reward)


# ------------------------------------------------------------------------------------------------ figures by hand


def test_advantages() -> None:
    assert advantages([1, 0, 0, 0]) == [0.75, -0.25, -0.25, -0.25]
    assert advantages([1, 1, 0, 0]) == [0.5, 0.5, -0.5, -0.5]
    assert advantages([1, 1, 1]) == [0, 0, 0]


def test_rows_with_signal() -> None:
    short, long = answer(2, [True], 1.0), answer(2, [True] * 3, 0.0)
    rows = rows_with_signal([[short, long], [short, short], [long, long]])
    assert rows == [(long, -0.5), (short, 0.5)]


def test_to_tensors() -> None:
    one = answer(2, [True, False, True], 1.0)  # ids 1 2 | 3 4 5, of which 4 is the calculator's output
    two = answer(1, [True], 0.0, first=8)  # ids 8 | 9
    ids, targets, weights = to_tensors([Row(one, 0.5), Row(two, -0.25)], 0, 40)
    assert ids.tolist() == [[1, 2, 3, 4, *[0] * 12], [8, *[0] * 15]]
    assert targets.tolist() == [[IGNORE, 3, IGNORE, 5, *[IGNORE] * 12], [9, *[IGNORE] * 15]]
    assert weights.tolist() == [[0, 0.5, 0, 0.5, *[0] * 12], [-0.25, *[0] * 15]]
    for part in to_tensors([], 0, 40):
        assert part.shape == (1, 16)
    assert to_tensors([], 0, 40)[1].tolist() == [[IGNORE] * 16]


def test_micro_steps_have_few_lengths() -> None:
    """In bfloat16, oneDNN keeps buffers for each shape."""
    times = [to_tensors([Row(answer(2, [True] * n, 1.0), 1.0)], 0, 40)[0].size(1) for n in (14, 15, 16, 32)]
    assert times == [16, 16, 32, 40]  # the last token is not an input: 2 + 15 tokens give 16 inputs; 40 is the context


def test_micro_steps_have_few_shapes() -> None:
    """The estimate of memory uses the number of shapes."""
    one = Row(answer(2, [True, True], 1.0), 0.5)  # has 3 inputs
    rows = [to_tensors([one] * count, 0, 40, 8)[0].size(0) for count in range(9)]
    assert rows == [1, 2, 2, 4, 4, 6, 6, 8, 8]  # multiples of a quarter of the batch; at least one row
    ids, targets, weights = to_tensors([one], 7, 40, 8)
    assert ids[1].tolist() == [7] * 16
    assert targets[1].tolist() == [IGNORE] * 16
    assert weights[1].tolist() == [0] * 16
    shapes = {
        to_tensors([Row(answer(1, [True] * time, 1.0), 0.5)] * count, 0, 40, 8)[0].shape
        for count in range(1, 9)
        for time in range(1, 41)
    }
    assert len(shapes) == number_of_shapes(8, 40) == 4 * 3
    assert number_of_shapes(2, 40) == 2 * 3


@pytest.mark.parametrize(("precision", "expected"), [("bf16-mixed", 28 * 10_200_000), ("32-true", 0)])
def test_memory_for_each_batch_shape(precision: str, expected: int) -> None:
    module = Reinforce(depth=1, vocab_size=265, context=128, width=32, heads=2)
    data = SimpleNamespace(batch_size=64, row_length=108)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    trainer: Any = SimpleNamespace(datamodule=data, precision=precision, strategy=strategy)
    module.trainer = trainer
    shapes = module.training_batch_shapes()  # 16, 32, 48 and 64 rows of 16, 32 ... 112 tokens
    assert onednn_memory(trainer, shapes) == expected


def test_statistics_of_three_groups() -> None:
    def group(rewards: Sequence[int], tokens: int) -> Group:
        return [answer(3, [True] * tokens, float(reward)) for reward in rewards]

    sums = sum_over_groups([group([1, 1, 0, 0], 2), group([0, 0, 0, 0], 4), group([1, 1, 1, 1], 9)], 4)
    found = average_over_groups(sums)
    assert found["reward"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert found["answer_tokens"] == pytest.approx((2 + 4 + 9) / 3)
    assert found["no_signal"] == pytest.approx(2 / 3)
    assert found["pass_at_1"] == pytest.approx((0.5 + 0 + 1) / 3)
    # 2 of 4 are correct: two of them at random are both wrong in 1 of 6 cases
    assert found["pass_at_2"] == pytest.approx((5 / 6 + 0 + 1) / 3)
    assert found["pass_at_4"] == pytest.approx((1 + 0 + 1) / 3)
    assert logged_k(4) == [1, 2, 4]
    assert logged_k(6) == [1, 2, 4, 6]
    assert logged_k(2) == [1, 2]


# --------------------------------------------------------------------------------------- what the model has sampled


def written(tokenizer: Tokenizer, tokens: Sequence[str | int]) -> Generation:
    """A generation with these tokens from the model."""
    gpt = random_gpt(vocab_size=265, context=64)
    engine = Engine(gpt, tokenizer)
    generation = Generation(tokenizer, engine.decoder.new_stream(), [0], Sampler(Sampling()))
    for token in tokens:
        generation.add(tokenizer.special_tokens[token] if isinstance(token, str) else token)
    return generation


def test_calculator_output_has_no_loss() -> None:
    tokenizer = byte_tokenizer()
    call = ["<|python_start|>", *b"1+2", "<|python_end|>"]
    generation = written(tokenizer, [*call, *b"3", "<|assistant_end|>"])
    question = Question(0, Arithmetic(), single_turn("1+2", "3"))
    found = to_answer(question, [5, 6], generation)
    output = [tokenizer.special_tokens[name] for name in ("<|output_start|>", "<|output_end|>")]
    assert found.ids[2 + 5 : 2 + 5 + 3] == [output[0], ord("3"), output[1]]
    assert found.sampled == [False] * 2 + [True] * 5 + [False] * 3 + [True] * 2
    assert found.ids[-1] == tokenizer.special_tokens["<|assistant_end|>"]  # the model also learns to end its answer
    assert found.reward == 1
    assert found.tokens == 7
    _, targets, weights = to_tensors([Row(found, 1.0)], 0, 40)
    assert (targets[0, 6:9] == IGNORE).all()
    assert (weights[0, 6:9] == 0).all()
    assert (weights[0, [1, 2, 3, 4, 5, 9, 10]] == 1).all()


def test_output_tokens_from_the_model_have_a_loss() -> None:
    tokenizer = byte_tokenizer()
    generation = written(tokenizer, ["<|output_start|>", *b"3", "<|output_end|>", "<|assistant_end|>"])
    assert generation.chosen == [True] * 3


def test_an_unfinished_answer_has_no_reward() -> None:
    tokenizer = byte_tokenizer()
    question = Question(0, Arithmetic(), single_turn("1+2", "3"))
    assert to_answer(question, [5], written(tokenizer, [*b"It is 3."])).reward == 0
    assert to_answer(question, [5], written(tokenizer, [*b"It is 3.", "<|assistant_end|>"])).reward == 1
    assert to_answer(question, [5], written(tokenizer, [*b"It is 4.", "<|assistant_end|>"])).reward == 0


def test_answers_do_not_depend_on_the_batch_size() -> None:
    gpt, tokenizer = random_gpt(vocab_size=265, context=64), byte_tokenizer()
    questions = [
        Question(place, Echo(), Echo().item(0, place)) for place in range(0, 16, 4)
    ]  # four times the same question
    engine = Engine(gpt, tokenizer)
    wanted = generate_groups(engine, questions, 3, 6, seed=1, batch_size=100)
    assert [[len(answer.ids) > 5 for answer in group] for group in wanted] == [[True] * 3] * 4
    assert generate_groups(engine, questions[2:], 3, 6, seed=1, batch_size=1) == wanted[2:]
    texts = [tuple(answer.ids) for group in wanted for answer in group]
    assert len(set(texts)) == len(texts)
    assert generate_groups(engine, questions, 3, 6, seed=2, batch_size=100) != wanted


def test_a_question_that_fills_the_context_has_no_answers() -> None:
    gpt, tokenizer = random_gpt(vocab_size=265, context=16), byte_tokenizer()
    long = Question(0, Echo(), single_turn("a" * 40, "a"))
    short = Question(1, Echo(), single_turn("a", "a"))
    assert len(generate_groups(Engine(gpt, tokenizer), [long, short], 2, 4, seed=0, batch_size=8)) == 1


# --------------------------------------------------------------------------------------------------- the questions


def test_question_order() -> None:
    order = QuestionOrder(Mixture({Echo(): 2, Arithmetic(): 1}), seed=3)
    questions = [order.question(place) for place in range(1100)]  # more than two rounds
    echoes = [q.item for q in questions if q.task.name == "echo"]
    assert abs(len(echoes) - 1100 * 2 / 3) < 30
    assert order.question(5) == questions[5]
    sums = [q.item for q in questions if q.task.name == "arithmetic"]
    first = [Arithmetic().item(3, index) for index in range(300)]
    assert all(item in sums for item in first)

    def steps(rank: int, size: int) -> list[MicroStep]:
        some = iter(QuestionSteps(order, 8, 4, 2, rank, size))
        return [next(some) for _ in range(4)]

    whole = steps(0, 1)
    assert [part.number for part in whole] == [0, 1, 0, 1]
    assert [[q.place for q in part.questions] for part in whole] == [[8, 9, 10, 11]] * 2 + [[12, 13, 14, 15]] * 2
    assert [[q.place for q in part.questions] for part in steps(1, 2)][::2] == [[9, 11], [13, 15]]


# ---------------------------------------------------------------------------------------------------- the gradient


def module_with(groups: list[Group], parts: int, batch_size: int, monkeypatch: pytest.MonkeyPatch) -> Reinforce:
    """A module whose generated answers are these."""
    module = Reinforce(depth=2, vocab_size=265, context=32, width=32, heads=2)
    module.gpt = random_gpt(depth=2, vocab_size=265, width=32, heads=2)
    data = SimpleNamespace(batch_size=batch_size, samples=2, max_tokens=9, seed=0, tokenizer=byte_tokenizer())
    trainer: Any = SimpleNamespace(datamodule=data, accumulate_grad_batches=parts, world_size=1)
    module.trainer = trainer
    module._rows, module._tokens, module.averages = [], (0, 1), RolloutSums()
    monkeypatch.setattr(reinforce, "generate_groups", lambda *rest: groups)
    return module


GROUPS = [
    [answer(3, [True, True, False, True], 1.0), answer(3, [True, True], 0.0, first=20)],
    [answer(2, [True] * 5, 0.0, first=30), answer(2, [True], 0.0, first=40)],  # equal rewards: no signal
    [answer(4, [True], 1.0, first=10), answer(4, [True, False, False, True], 0.0, first=25)],
]


@pytest.mark.parametrize(("parts", "batch_size"), [(1, 8), (2, 2), (2, 3), (5, 1), (3, 8)])
def test_gradient_against_the_formula(parts: int, batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_with(GROUPS, parts, batch_size, monkeypatch)
    losses = []
    for number in range(parts):
        loss = module.training_step(MicroStep([], number), number)
        (loss / parts).backward()  # Lightning divides
        losses.append(loss.item() / parts)
    found = {name: p.grad.clone() for name, p in module.gpt.named_parameters() if p.grad is not None}

    module.gpt.zero_grad()
    tokens = 3 + 2 + 5 + 1 + 1 + 2  # sampled by the model, also in the group without a signal
    total = torch.zeros(())
    for group in GROUPS:
        mean = sum(one.reward for one in group) / len(group)
        for one in group:
            logp = module.gpt(torch.tensor([one.ids])).log_softmax(-1)[0]
            for place in range(1, len(one.ids)):
                if one.sampled[place]:
                    total = total - (one.reward - mean) * logp[place - 1, one.ids[place]]
    total = total / tokens
    total.backward()
    assert sum(losses) == pytest.approx(total.item(), abs=1e-6)
    assert len(found) == len(list(module.gpt.parameters()))
    for name, parameter in module.gpt.named_parameters():
        assert parameter.grad is not None
        assert torch.allclose(found[name], parameter.grad, atol=1e-6), name
    assert module.averages is not None
    assert module.averages.values["loss"] == pytest.approx(total.item(), abs=1e-6)
    assert module.tokens_in(MicroStep([], 0)) == tokens


def test_a_correct_answer_becomes_more_probable(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_with(GROUPS[:1], 1, 8, monkeypatch)
    right, wrong = GROUPS[0]

    def logp(one: Answer) -> float:
        with torch.no_grad():
            found = module.gpt(torch.tensor([one.ids])).log_softmax(-1)[0]
        return sum(float(found[i - 1, one.ids[i]]) for i in range(1, len(one.ids)) if one.sampled[i])

    before = logp(right), logp(wrong)
    module.training_step(MicroStep([], 0), 0).backward()
    with torch.no_grad():
        for parameter in module.gpt.parameters():
            parameter -= 0.05 * parameter.grad  # type: ignore[operator]
    assert logp(right) > before[0]
    assert logp(wrong) < before[1]


# -------------------------------------------------------------------------------------------------- training


def half_trained(tokenizer: Tokenizer) -> Reinforce:
    """A small model that answers with one of four letters at random."""
    seed_everything(1)
    rates = dict(matrix_lr=0.03, embedding_lr=0.01, head_lr=0.005)
    module = Reinforce(depth=2, vocab_size=265, context=32, width=32, heads=2, **rates)
    optimizer = torch.optim.AdamW(module.gpt.parameters(), 0.01)
    pairs = [(q, a) for q in LETTERS for a in LETTERS]
    messages = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in pairs]
    rendered = [render(tokenizer, m) for m in messages]
    ids, mask = (torch.tensor([r[part] for r in rendered]) for part in (0, 1))
    for _ in range(60):
        loss = module.gpt.losses(ids[:, :-1], ids[:, 1:].masked_fill(mask[:, 1:] == 0, IGNORE)).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> QuestionsDataModule:
    found = QuestionsDataModule(
        {"echo": 1}, None, 16, 8, max_tokens=4, vocab_size=265, context=32, batch_size=64, val_questions=4, seed=0
    )
    monkeypatch.setattr(found, "_open_task", lambda name: Echo())
    found.use_tokenizer(byte_tokenizer())
    return found


def fit(module: Reinforce, data: QuestionsDataModule, steps: int, root: Path, **more: Any) -> Trainer:
    trainer = Trainer(
        **{"accelerator": "cpu", "max_steps": steps, "max_epochs": -1, "logger": False, "default_root_dir": root},
        **{"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False},
        **{"log_every_n_steps": 1, "num_sanity_val_steps": 0, **more},
    )
    trainer.fit(module, datamodule=data)
    return trainer


@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("ignore")
def test_a_small_model_improves(data: QuestionsDataModule, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    module = half_trained(tokenizer)
    prompts = {letter: render_prompt(tokenizer, [{"role": "user", "content": letter}]) for letter in LETTERS}

    def chance_of_right() -> float:
        with torch.no_grad():
            shares = [module.gpt(torch.tensor([p]))[0, -1].softmax(-1)[ord(letter)] for letter, p in prompts.items()]
        return float(sum(shares) / 4)

    before = chance_of_right()
    assert 0.2 < before < 0.3
    trainer = fit(module, data, 100, tmp_path)
    assert chance_of_right() > 0.8
    assert trainer.callback_metrics["val/accuracy"].item() == 1
    assert trainer.callback_metrics["train/reward"].item() > 0.8
    assert data.tokens_seen(100) > 100 * 128  # an answer is a letter and the token that ends it


@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("ignore")
def test_answers_come_from_the_current_weights(
    data: QuestionsDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, seen = half_trained(byte_tokenizer()), []
    prompt = render_prompt(data.tokenizer, [{"role": "user", "content": "a"}])
    original = reinforce.generate_groups

    def check_engine(engine: Engine, *rest: Any) -> list[Group]:
        found = engine.decoder.read([engine.decoder.new_stream()], [prompt])[0]
        with torch.no_grad():
            wanted = module.gpt(torch.tensor([prompt]))[0, -1]
        assert torch.allclose(found, wanted, atol=1e-4)
        seen.append(found)
        return original(engine, *rest)

    monkeypatch.setattr(reinforce, "generate_groups", check_engine)
    fit(module, data, 4, tmp_path)
    assert len(seen) == 4
    assert all((a - b).abs().max() > 1e-3 for a, b in pairwise(seen))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("ignore")
def test_a_step_without_signal_leaves_the_weights_unchanged(
    data: QuestionsDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The momentum of earlier steps does not change them, either."""
    module, weights = half_trained(byte_tokenizer()), []
    written = iter([GROUPS, GROUPS[1:2], GROUPS[1:2], GROUPS])  # the second and the third step have no signal
    monkeypatch.setattr(reinforce, "generate_groups", lambda *rest: next(written))

    class RecordWeights(Callback):
        def on_train_batch_start(self, *rest: Any) -> None:
            weights.append(torch.cat([p.detach().flatten() for p in module.gpt.parameters()]))

    fit(module, data, 4, tmp_path, callbacks=[RecordWeights()], limit_val_batches=0)
    steps = weights[:: len(weights) // 4]  # at the first of the two micro-steps of each step
    assert [bool((a != b).any()) for a, b in pairwise(steps)] == [True, False, False]


@pytest.mark.parametrize("name", ["smoltalk", "my.jsonl"])
def test_tasks_without_a_check_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be checked"):
        QuestionsDataModule({name: 1})
