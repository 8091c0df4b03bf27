"""Adapter to EleutherAI's lm-evaluation-harness (``pip install lm-eval``), which evaluates a model on its many tasks.

model = nanochat.load("tiny")
lm_eval.simple_evaluate(NanochatLM(model.gpt, model.tokenizer), tasks=["arc_easy"])
"""

from __future__ import annotations

from collections.abc import Sequence

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from nanochat.evaluation.prompts import Candidate, common, truncate
from nanochat.evaluation.scoring import Judge, Judged
from nanochat.inference.engine import Engine
from nanochat.inference.generation import Generation
from nanochat.inference.sampling import Sampling
from nanochat.model import GPT
from nanochat.tokenizer import Tokenizer

MAX_TOKENS = 256  # of a generated text, unless the task sets max_gen_toks
BATCH_SIZE = 32  # texts that are generated together


class NanochatLM(LM):
    """The harness's interface to a model: log-likelihoods and generated texts.

    Each text begins with ``<|bos|>``, as in training. Texts longer than the context are truncated to their end.

    Args:
        gpt: the model.
        tokenizer: its tokenizer.
        batch_tokens: as in :class:`nanochat.evaluation.scoring.Judge`.
    """

    def __init__(self, gpt: GPT, tokenizer: Tokenizer, batch_tokens: int | None = None) -> None:
        super().__init__()
        self.gpt, self.tokenizer = gpt, tokenizer
        self._judge = Judge(gpt, batch_tokens)

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """The log-probability of each (context, continuation) request, and whether greedy decoding would give it."""
        candidates = [self._candidate(*request.args) for request in requests]
        nonempty = [candidate for candidate in candidates if len(candidate.ids) > 1]
        judged = iter(self._judge.judge(nonempty))
        return [_to_answer(next(judged)) if len(candidate.ids) > 1 else (0.0, True) for candidate in candidates]

    def _candidate(self, context: str, continuation: str) -> Candidate:
        # a space at the end of the context is part of the next word's token
        before = self._ids(context.rstrip())
        whole = self._ids(context + continuation)
        return truncate(whole, min(common(before, whole), len(whole) - 1), self.gpt.context)

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        """The log-probability of each (text,) request; longer texts are scored in windows of the context's length.

        Each token is scored once. The last window is moved back to fill the context.
        """
        windows: list[tuple[int, Candidate]] = []
        for number, request in enumerate(requests):
            ids = self._ids(request.args[0])
            done = 1  # <|bos|> is not scored
            while done < len(ids):
                end = min(len(ids), done - 1 + self.gpt.context)
                begin = max(0, end - self.gpt.context)
                windows.append((number, Candidate(ids[begin:end], done - begin)))
                done = end
        totals = [0.0] * len(requests)
        judged = self._judge.judge([window for _, window in windows])
        for (number, _), verdict in zip(windows, judged, strict=True):
            totals[number] -= verdict.total
        return totals

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """The continuation of each (context, options) request, up to a stop string in options["until"]."""
        engine = Engine(self.gpt, self.tokenizer)
        texts = []
        for begin in range(0, len(requests), BATCH_SIZE):
            generations = self._start(engine, requests[begin : begin + BATCH_SIZE])
            engine.run(generations)
            texts += [generation.text for generation in generations]
        return texts

    def _start(self, engine: Engine, requests: Sequence[Instance]) -> list[Generation]:
        generations = []
        for request in requests:
            context, options = request.args
            until = options.get("until", ())
            stop = [until] if isinstance(until, str) else list(until)
            max_tokens = min(int(options.get("max_gen_toks", MAX_TOKENS)), self.gpt.context - 1)
            ids = self._ids(context)[-(self.gpt.context - max_tokens) :]
            temperature = float(options.get("temperature", 0.0)) if options.get("do_sample") else 0.0
            generations += engine.start(ids, Sampling(temperature, top_k=None), max_tokens, seed=0, stop=stop)
        return generations

    def _ids(self, text: str) -> list[int]:
        return [self.tokenizer.bos, *self.tokenizer.encode(text)]


def _to_answer(verdict: Judged) -> tuple[float, bool]:
    return -verdict.total, verdict.reproduced
