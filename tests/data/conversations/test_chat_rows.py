"""Rows of conversations: complete, deterministic, and with only the assistant's tokens as targets."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nanochat.data.chat_data import ChatDataModule
from nanochat.data.conversations.chat_rows import (
    ConversationBatches,
    ConversationStream,
    HeldOutConversations,
    Origin,
    pack,
)
from nanochat.data.conversations.mixture import ROUND, Mixture
from nanochat.data.conversations.task_sources import open_tasks, own_conversations
from nanochat.model import IGNORE
from nanochat.tasks.arithmetic import Arithmetic
from nanochat.tasks.identity import Identity
from nanochat.tokenizer import Tokenizer, render
from tests.conftest import sentences

TOKENIZER = Tokenizer.train(sentences(200), 400)
WEIGHTS = {"arithmetic": 3.0, "identity": 1.0}


def mixture(several_turns: float = 0.3) -> Mixture:
    return Mixture({Arithmetic(): 3.0, Identity(): 1.0}, several_turns)


def stream(row_length: int = 100, origin: Origin | None = None, **more: Any) -> ConversationStream:
    return ConversationStream(mixture(**more), TOKENIZER, row_length, seed=1, origin=origin)


@given(st.lists(st.integers(1, 50), max_size=200))
def test_pack_is_complete_and_fits(sizes: list[int]) -> None:
    bins = pack(sizes, 50)
    assert sorted(i for chosen in bins for i in chosen) == list(range(len(sizes)))
    filled = [sum(sizes[i] for i in chosen) for chosen in bins]
    assert all(0 < size <= 50 for size in filled)
    assert sum(size <= 25 for size in filled) <= 1  # two half-empty bins would have been one


def test_tasks_have_their_shares_in_order() -> None:
    mixed = mixture()
    drawn = [item for number in range(5) for _, item in mixed.items(0, number)]
    counts = Counter("python" in str(item.messages[-1]["content"]) for item in drawn)
    assert counts == {True: 5 * ROUND * 3 // 4, False: 5 * ROUND // 4}
    identity = Identity()
    wanted = Counter(json.dumps(identity.item(0, i)) for i in range(counts[False]))
    assert Counter(json.dumps(item) for item in drawn if "python" not in str(item.messages[-1]["content"])) == wanted


@pytest.mark.parametrize(
    ("weights", "said"), [([-1.0, 1.0], "must not be negative"), ([0.0, 0.0], "at least one task")]
)
def test_invalid_weights_raise(weights: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Mixture(dict(zip([Arithmetic(), Identity()], weights, strict=True)))


def test_rows_hold_whole_conversations_and_masked_padding() -> None:
    rows = stream()
    whole = {tuple(r.ids): r.mask for turns in rows.mixture.round(1, 0) for r in rows._render(turns)}
    seen = 0
    for number in range(rows.origin(0).row, 40):
        ids, mask = rows.row(number)
        assert len(ids) == 101
        starts = [*np.flatnonzero(ids == TOKENIZER.bos), len(ids)]
        for begin, end in pairwise(starts):
            one = tuple(ids[begin:end].tolist())
            assert one == (TOKENIZER.bos,) or mask[begin:end].tolist() == whole[one]
            assert one != (TOKENIZER.bos,) or mask[begin] == 0
            seen += one != (TOKENIZER.bos,)
    assert seen > 60


def test_conversations_that_do_not_fit_are_split() -> None:
    rows = stream(row_length=60, several_turns=1.0)
    for turns in rows.mixture.round(1, 0):
        assert len(turns) > 1
        alone = [render(TOKENIZER, messages)[0] for messages in turns]
        assert [r.ids for r in rows._render(turns)] == [ids[:61] for ids in alone]


def test_conversations_longer_than_a_row_are_cut() -> None:
    rows = stream(row_length=20, several_turns=0.0)
    for number in range(50):
        ids, mask = rows.row(number)
        assert (ids == TOKENIZER.bos).sum() >= 1
        assert mask[1:].any()


def test_a_row_depends_only_on_its_number() -> None:
    first, again = stream(), stream()
    numbers = [700, 3, 250, 4]
    rows = {n: first.row(n) for n in sorted(numbers)}
    for n in numbers:
        assert all((a == b).all() for a, b in zip(rows[n], again.row(n), strict=True))
    later = stream(origin=first.origin(700))
    assert all((a == b).all() for a, b in zip(rows[700], later.row(700), strict=True))
    assert later._origins[0].row > 250  # earlier rounds were not packed
    other = ConversationStream(mixture(), TOKENIZER, 100, seed=2)
    assert (other.row(3)[0] != rows[3][0]).any()


def test_ranks_share_the_rows() -> None:
    def batches(rank: int, ranks: int, rows: int, start: int, count: int) -> list[torch.Tensor]:
        return [ids for ids, _ in islice(ConversationBatches(stream(), start, rows, rank, ranks), count)]

    alone = torch.cat(batches(0, 1, 4, 8, 6))
    both = [batches(rank, 2, 2, 8, 6) for rank in range(2)]
    together = torch.cat([b for pair in zip(*both, strict=True) for b in pair])
    assert (alone == together).all()


def test_targets_are_the_assistants_tokens() -> None:
    ids, targets = next(iter(ConversationBatches(stream(), 0, 4)))
    rows = [stream().row(n) for n in range(4)]
    for i, (row, mask) in enumerate(rows):
        assert ids[i].tolist() == row[:-1].tolist()
        assert targets[i].tolist() == [t if m else IGNORE for t, m in zip(row[1:], mask[1:], strict=True)]


def data(**options: Any) -> ChatDataModule:
    module = ChatDataModule(**{"tasks": WEIGHTS, "vocab_size": 400, "context": 128, "batch_size": 3, **options})
    module.use_tokenizer(TOKENIZER)
    module.setup("fit")
    return module


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_make_the_same_batches(num_workers: int) -> None:
    alone = [ids for ids, _ in islice(data().train_dataloader(), 12)]
    with_workers = [ids for ids, _ in islice(data(num_workers=num_workers).train_dataloader(), 12)]
    assert all((a == b).all() for a, b in zip(alone, with_workers, strict=True))


def test_held_out_targets_are_the_assistants_tokens() -> None:
    module = data()
    assert isinstance(module.held_out, HeldOutConversations)
    scored = 0
    for ids, targets in module.val_dataloader():
        assert ids.shape == targets.shape
        scored += int((targets != IGNORE).sum())
    items = [item for _, item in module.mixture.held_out(1000)]
    assert scored == sum(sum(render(TOKENIZER, item.messages)[1][1:]) for item in items)


def test_the_fingerprint_depends_on_the_tasks() -> None:
    assert data().fingerprint == data(batch_size=2).fingerprint
    assert data().fingerprint != data(tasks={"arithmetic": 1.0, "identity": 1.0}).fingerprint


def test_target_share() -> None:
    module = data()
    batches = list(islice(module.train_dataloader(), 40))
    measured = torch.cat([(targets != IGNORE).float().mean(1) for _, targets in batches]).mean()
    assert module.target_share == pytest.approx(float(measured), rel=0.05)


def test_prompt_and_stop_ids() -> None:
    module = data()
    special = TOKENIZER.special_tokens
    assert module.prompt("hi")[-1] == special["<|assistant_start|>"]
    assert special["<|assistant_end|>"] in module.stop_ids


# ------------------------------------------------------------------------------------------- the user's own files


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))
    return path


GOOD = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}]}


def test_own_conversations(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", GOOD, "", {**GOOD, "source": "me"}, GOOD)
    (task,) = open_tasks([str(path)])
    assert task.name == "mine"
    assert not task.scored
    assert {json.dumps(task.item(0, i).messages) for i in range(5)} == {json.dumps(GOOD["messages"])}
    assert task.held_out_count == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "it is not JSON"),
        ("[1]", 'not an object with "messages"'),
        ('{"text": "x"}', 'not an object with "messages"'),
        ('{"messages": []}', "there are no messages"),
        ('{"messages": [{"role": "tool", "content": "x"}]}', "message 1 has the role 'tool'"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "no assistant message"),
        ('{"messages": [{"role": "user", "content": "\\ud800"}]}', "not valid Unicode"),
    ],
)
def test_an_invalid_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = write(tmp_path / "mine.jsonl", GOOD, "", line, GOOD)
    with pytest.raises(ValueError, match=said) as caught:
        own_conversations(path)
    assert str(caught.value).startswith(f"{path}, line 3: ")
    assert "\n" not in str(caught.value)


def test_invalid_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\n\xff\n")
    with pytest.raises(ValueError, match="line 2: it is not UTF-8"):
        own_conversations(path)


@pytest.mark.parametrize(
    ("name", "said"), [("spellin", "did you mean spelling"), ("nothing.jsonl", "there is no file")]
)
def test_unknown_tasks_raise(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        open_tasks([name])
