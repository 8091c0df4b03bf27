"""What ``predict`` writes: a completion of each prompt, in the order of the prompts."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from nanochat.inference.generation import Generation
from nanochat.inference.sampling import Sampling
from nanochat.options import at_least
from nanochat.training.console import say
from nanochat.training.language_model import LanguageModel
from nanochat.wording import plural


class Completions(BasePredictionWriter):
    """Writes each prompt with its completion into a JSONL file, batch by batch.

    A line has all that the prompt's had, and besides: "completion", "tokens" (how many that took) and "finished":
    "stop" where the model ended it, "length" where there was no more room.

    Args:
        out: the file; null takes completions/ in the folder of the run, and there the name of the prompts' file. One
            that is there is replaced when all is done.
        max_tokens: of a completion at most; null for as many as the context has room for.
        temperature: 0 takes the likeliest token each time; 1 draws as the model says; above, more evenly.
        top_k: draw from the likeliest k tokens only; null draws from all.
        top_p: draw from the likeliest tokens that together have this probability.
        min_p: leave out tokens less likely than this share of the likeliest one.
        repetition_penalty: above 1 makes tokens less likely that are in the text already.
        seed: the same seed gives the same completions, however many are written at once; null takes the run's seed.

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
        self.settings = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
        self.out = Path(out) if out is not None else None
        self.max_tokens, self.seed = max_tokens, seed or 0
        self._file: TextIO | None = None
        self._count = self._tokens = 0
        self._began = self._seconds = 0.0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LanguageModel)
        pl_module.write_as(self.settings, self.max_tokens, self.seed)
        assert self.out is not None, "whoever knows the run says where"
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._part, "w", encoding="utf-8")  # noqa: SIM115  open until the last batch
        self._began = time.perf_counter()

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
        self._seconds = time.perf_counter() - self._began

    @property
    def in_words(self) -> str:
        """What was written, how quickly, and where; when all is done."""
        speed = self._tokens / max(self._seconds, 1e-9)
        what = f"{plural(self._count, 'completion')} of {self._tokens:,} tokens"
        return f"{what} in {self._seconds:.1f} s ({speed:,.0f} tokens/s): {self.out}"

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """What was there before stays; what is new by now is kept beside it."""
        if self._file is not None:
            self._file.close()
            if self._count:
                say(f"The first {self._count:,} completions are in {self._part}")
            else:
                self._part.unlink(missing_ok=True)
