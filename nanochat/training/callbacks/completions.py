"""Writes the output of ``predict``: a completion of each prompt, in the order of the prompts."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from nanochat.inference.engine import Engine
from nanochat.inference.generation import Generation
from nanochat.inference.sampling import Sampling
from nanochat.options import at_least
from nanochat.training.console import say
from nanochat.training.language_model import LanguageModel
from nanochat.training.prompt_completer import PromptCompleter
from nanochat.training.trainer_state import data_of
from nanochat.wording import plural


class Completions(BasePredictionWriter):
    """Writes each prompt with its completion into a JSONL file, batch by batch.

    A line has the fields of the prompt, and "completion", "tokens" (its number of tokens) and "finished": "stop" if the
    model ended the text, "length" if the limit of tokens did.

    Args:
        out: the file; null takes completions/ in the run's folder, and there the name of the prompts' file. An existing
            file is replaced when all completions are written.
        max_tokens: longest completion; null for as many tokens as the context has room for.
        temperature: 0 takes the most probable token each time; 1 samples from the model's distribution; above 1 from a
            flatter one.
        top_k: sample from the k most probable tokens only; null samples from all.
        top_p: sample from the most probable tokens that together have this probability.
        min_p: leave out tokens with less than this fraction of the highest probability.
        repetition_penalty: above 1 makes tokens less probable that are in the text already.
        seed: the same seed gives the same completions, for any --data.at_once; null takes --seed_everything.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        out: str | None = None,
        max_tokens: int | None = None,
        temperature: float = 0.8,
        top_k: int | None = 50,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
    ) -> None:
        super().__init__("batch")
        at_least(1, "completions.", max_tokens=max_tokens)
        self.sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
        self.out = Path(out) if out is not None else None
        self.max_tokens, self.seed = max_tokens, seed or 0
        self._file: TextIO | None = None
        self._count = self._tokens = 0
        self._started = self._seconds = 0.0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LanguageModel)
        engine = Engine(pl_module.gpt, data_of(trainer).tokenizer)
        pl_module.complete = PromptCompleter(engine, self.sampling, self.max_tokens, self.seed)
        assert self.out is not None, "set from the run's folder by the command"
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._part, "w", encoding="utf-8")  # noqa: SIM115  open until the last batch
        self._started = time.perf_counter()

    @property
    def _part(self) -> Path:
        assert self.out is not None
        return self.out.with_name(f"{self.out.name}.part")

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Sequence[Generation],
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        assert self._file is not None
        for prompt, generation in zip(batch, prediction, strict=True):
            tokens = len(generation.tokens)
            added = {"completion": generation.text, "tokens": tokens, "finished": generation.finished}
            self._file.write(json.dumps({**prompt.record, **added}, ensure_ascii=False) + "\n")
            self._count, self._tokens = self._count + 1, self._tokens + tokens
        self._file.flush()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._file is not None
        assert self.out is not None
        self._file.close()
        os.replace(self._part, self.out)
        self._seconds = time.perf_counter() - self._started

    @property
    def report(self) -> str:
        """Number of completions, speed and path, on one line; valid after the last batch."""
        speed = self._tokens / max(self._seconds, 1e-9)
        amount = f"{plural(self._count, 'completion')} of {plural(self._tokens, 'token')}"
        return f"{amount} in {self._seconds:.1f} s ({speed:,.0f} tokens/s): {self.out}"

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keeps an existing file, and the completions so far in a file with the suffix .part."""
        if self._file is not None:
            self._file.close()
            if self._count:
                say(f"The first {plural(self._count, 'completion')} went to {self._part}")
            else:
                self._part.unlink(missing_ok=True)
