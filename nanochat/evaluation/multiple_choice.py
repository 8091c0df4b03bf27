"""Questions with lettered choices: the offered letter with the highest logit is the model's answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nanochat.evaluation.scoring import CLOSE, CPU_BATCH_TOKENS, GPU_BATCH_TOKENS
from nanochat.model import GPT
from nanochat.tasks.records import LETTERS
from nanochat.tokenizer import Tokenizer


class Question(NamedTuple):
    """A prompt that asks for a letter.

    Attributes:
        ids: the prompt's tokens; the answer would come next.
        offered: number of letters to choose from, starting with A.
    """

    ids: list[int]
    offered: int


class MultipleChoice:
    """Answers prompts in batches; each answer is the same as if its prompt were read alone.

    Args:
        gpt: the model.
        tokenizer: its tokenizer.
        batch_tokens: tokens in a batch at most, padding included; None for the device's default.
    """

    def __init__(self, gpt: GPT, tokenizer: Tokenizer, batch_tokens: int | None = None) -> None:
        self.gpt = gpt
        self.batch_tokens = batch_tokens or (CPU_BATCH_TOKENS if gpt.device.type == "cpu" else GPU_BATCH_TOKENS)
        letters = [tokenizer.encode(letter) for letter in LETTERS]
        assert all(len(ids) == 1 for ids in letters), "a letter is a byte, and each byte is a token"
        self.tokens = torch.tensor([ids[0] for ids in letters], device=gpt.device)

    @torch.inference_mode()
    def answers(self, questions: Sequence[Question], on_done: Callable[[int], object] | None = None) -> list[int]:
        """The index of the likeliest offered letter for each question; of equal ones the first.

        A prompt that is longer than the context is cut to its last tokens.

        Args:
            questions: in any order.
            on_done: called after each batch with the number of questions in it.
        """
        answers = [0] * len(questions)
        texts = [question.ids[-self.gpt.context :] for question in questions]
        for batch in self._batches(texts):
            logits = self._letter_logits([texts[index] for index in batch])
            for index, row in zip(batch, logits, strict=True):
                offered = row[: questions[index].offered]
                if len(batch) > 1 and _is_close(offered):  # the rounding of a batch must not decide
                    offered = self._letter_logits([texts[index]])[0, : questions[index].offered]
                answers[index] = int(offered.argmax())
            if on_done is not None:
                on_done(len(batch))
        return answers

    def _batches(self, texts: Sequence[Sequence[int]]) -> list[list[int]]:
        """Indices of texts of similar lengths; the longest first, so that a lack of memory shows at once."""
        batches: list[list[int]] = []
        for index in sorted(range(len(texts)), key=lambda i: -len(texts[i])):
            if batches and (len(batches[-1]) + 1) * len(texts[batches[-1][0]]) <= self.batch_tokens:
                batches[-1].append(index)
            else:
                batches.append([index])
        return batches

    def _letter_logits(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The logit of each letter after each text: (texts, letters), float32, on the CPU."""
        ids = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.int64)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text)  # padding comes last, where no token of the text looks
        x = self.gpt.hidden(ids.to(self.gpt.device))
        last = torch.tensor([len(text) - 1 for text in texts], device=x.device)
        return self.gpt.unembed(x[torch.arange(len(texts), device=x.device), last])[:, self.tokens].cpu()


def _is_close(offered: Tensor) -> bool:
    if len(offered) < 2:
        return False
    first, second = offered.topk(2).values
    return float(first - second) < CLOSE
