"""Questions with lettered choices: which of the offered letters a model finds likeliest as its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat.evaluation.scoring import CLOSE, CPU_BATCH_TOKENS, GPU_BATCH_TOKENS
from nanochat.model import GPT
from nanochat.model.loss import softcap
from nanochat.tasks.records import LETTERS
from nanochat.tokenizer import Tokenizer


class Question(NamedTuple):
    """A prompt that asks for a letter.

    Attributes:
        ids: ends where the answer begins.
        offered: how many letters, from A.
    """

    ids: list[int]
    offered: int


class Letters:
    """Reads prompts, many at a time; each answer is as if it were asked alone.

    Args:
        gpt: the model.
        tokenizer: its tokenizer.
        batch_tokens: how many tokens go through the model at a time, padding included; None for what suits it.
    """

    def __init__(self, gpt: GPT, tokenizer: Tokenizer, batch_tokens: int | None = None) -> None:
        self.gpt, self.device = gpt, gpt.embedding.weight.device
        self.batch_tokens = batch_tokens or (CPU_BATCH_TOKENS if self.device.type == "cpu" else GPU_BATCH_TOKENS)
        letters = [tokenizer.encode(letter) for letter in LETTERS]
        assert all(len(ids) == 1 for ids in letters), "a letter is a byte, and each byte is a token"
        self.tokens = torch.tensor([ids[0] for ids in letters], device=self.device)

    @torch.inference_mode()
    def answers(self, questions: Sequence[Question], on_done: Callable[[int], object] | None = None) -> list[int]:
        """The likeliest of each question's letters, counted from 0; of equal ones the first.

        Of a prompt that is longer than the context the last tokens are read.

        Args:
            questions: in any order.
            on_done: is told, as it goes, how many more have been answered.
        """
        answers = [0] * len(questions)
        texts = [question.ids[-self.gpt.context :] for question in questions]
        for batch in self._batches(texts):
            logits = self._logits([texts[index] for index in batch])
            for index, row in zip(batch, logits, strict=True):
                offered = row[: questions[index].offered]
                if len(batch) > 1 and _is_close(offered):  # rounding, which differs in a batch, must not decide
                    offered = self._logits([texts[index]])[0, : questions[index].offered]
                answers[index] = int(offered.argmax())
            if on_done is not None:
                on_done(len(batch))
        return answers

    def _batches(self, texts: Sequence[Sequence[int]]) -> list[list[int]]:
        """The numbers of texts of similar lengths together; the longest first, so that too little memory shows."""
        batches: list[list[int]] = []
        for index in sorted(range(len(texts)), key=lambda i: -len(texts[i])):
            if batches and (len(batches[-1]) + 1) * len(texts[batches[-1][0]]) <= self.batch_tokens:
                batches[-1].append(index)
            else:
                batches.append([index])
        return batches

    def _logits(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """(texts, letters), float32, on the CPU: of each letter after each text."""
        ids = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.int64)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text)  # padding stands behind, where no token of the text looks
        vectors = self.gpt.hidden(ids.to(self.device))
        last = vectors[torch.arange(len(texts)), torch.tensor([len(text) - 1 for text in texts], device=self.device)]
        logits = softcap(F.linear(last.float(), self.gpt.head.weight[self.tokens].float()))  # of the letters only
        return logits.cpu()


def _is_close(offered: Tensor) -> bool:
    if len(offered) < 2:
        return False
    first, second = offered.topk(2).values
    return float(first - second) < CLOSE
