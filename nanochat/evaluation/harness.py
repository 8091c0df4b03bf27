"""Our model under EleutherAI's lm-evaluation-harness (``pip install lm-eval``), whose many tasks it can then be asked.

model = nanochat.load("tiny")
lm_eval.simple_evaluate(NanochatLM(model.gpt, model.tokenizer), tasks=["arc_easy"])
"""

from __future__ import annotations

from collections.abc import Sequence

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from nanochat.evaluation.prompts import Candidate, common, cut
from nanochat.evaluation.scoring import Judge, Judged
from nanochat.inference.engine import Engine
from nanochat.inference.generation import Generation
from nanochat.inference.sampling import Sampling
from nanochat.model import GPT
from nanochat.tokenizer import Tokenizer

MAX_TOKENS = 256  # of a text to write, where the task does not say
AT_ONCE = 32  # texts that are written together


class NanochatLM(LM):
    """Answers what the harness asks: how likely a text is, and what comes after one.

    Each text begins with ``<|bos|>``, as it did in training. Of one that is longer than the context, the end is read.

    Args:
        gpt: the model.
        tokenizer: its tokenizer.
        batch_tokens: as of :class:`nanochat.evaluation.scoring.Judge`.
    """

    def __init__(self, gpt: GPT, tokenizer: Tokenizer, batch_tokens: int | None = None) -> None:
        super().__init__()
        self.gpt, self.tokenizer = gpt, tokenizer
        self._judge = Judge(gpt, batch_tokens)

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Of each (context, continuation): the log-probability of the continuation, and whether it is the likeliest."""
        candidates = [self._candidate(*request.args) for request in requests]
        asked = [candidate for candidate in candidates if len(candidate.ids) > 1]  # not where there is no text at all
        found = iter(self._judge.judge(asked))
        return [_as_answer(next(found)) if len(candidate.ids) > 1 else (0.0, True) for candidate in candidates]

    def _candidate(self, context: str, continuation: str) -> Candidate:
        # a space at the end of the context is part of the next word's token
        before = self._ids(context.rstrip())
        whole = self._ids(context + continuation)
        return cut(whole, min(common(before, whole), len(whole) - 1), self.gpt.context)

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        """Of each (text,): its log-probability, in pieces as long as the context where it is longer.

        Each token is predicted once; the last piece has as much before it as the context allows.
        """
        pieces: list[tuple[int, Candidate]] = []
        for number, request in enumerate(requests):
            ids = self._ids(request.args[0])
            done = 1  # <|bos|> is given
            while done < len(ids):
                end = min(len(ids), done - 1 + self.gpt.context)
                begin = max(0, end - self.gpt.context)
                pieces.append((number, Candidate(ids[begin:end], done - begin)))
                done = end
        totals = [0.0] * len(requests)
        found = self._judge.judge([piece for _, piece in pieces])
        for (number, _), verdict in zip(pieces, found, strict=True):
            totals[number] -= verdict.total
        return totals

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Of each (context, options): what the model adds, up to one of the texts in options["until"]."""
        engine = Engine(self.gpt, self.tokenizer)
        texts = []
        for begin in range(0, len(requests), AT_ONCE):
            started = self._start(engine, requests[begin : begin + AT_ONCE])
            engine.run(started)
            texts += [generation.text for generation in started]
        return texts

    def _start(self, engine: Engine, requests: Sequence[Instance]) -> list[Generation]:
        started = []
        for request in requests:
            context, options = request.args
            until = options.get("until", ())
            stop = [until] if isinstance(until, str) else list(until)
            most = min(int(options.get("max_gen_toks", MAX_TOKENS)), self.gpt.context - 1)
            ids = self._ids(context)[-(self.gpt.context - most) :]
            temperature = float(options.get("temperature", 0.0)) if options.get("do_sample") else 0.0
            started += engine.start(ids, Sampling(temperature, top_k=None), most, seed=0, stop=stop)
        return started

    def _ids(self, text: str) -> list[int]:
        return [self.tokenizer.bos, *self.tokenizer.encode(text)]


def _as_answer(verdict: Judged) -> tuple[float, bool]:
    return -verdict.total, verdict.reproduced
