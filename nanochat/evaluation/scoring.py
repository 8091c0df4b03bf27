"""Scores CORE questions in batches; each verdict is the same as if the question were read alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat.evaluation.prefix_tree import Tree, hidden, pays
from nanochat.evaluation.prompts import Candidate, Question, common
from nanochat.inference.decoder import is_sharded
from nanochat.model import GPT

CPU_BATCH_TOKENS = 4096  # larger batches of a small model are no faster on a CPU: their activations leave the caches
GPU_BATCH_TOKENS = 65_536
MAX_LOGITS = 2**25  # computed at a time: 128 MiB
# Sums round differently in a batch of another shape, which moves the loss of a text by some millionths (by at most
# 3e-5 in 18 tasks). Where a decision is closer than this, the question is read again alone, so that the answer never
# depends on the batch. (bfloat16 rounds more coarsely than most differences: there it can.)
CLOSE = 1e-4
PREFIX_KEY = 8  # candidates that agree in this many tokens are laid out as one tree
Row = tuple[Tree, list[tuple[int, int]]]  # a tree, and the (question, candidate) of each of its texts


class Judged(NamedTuple):
    """The score of a candidate's end: the tokens that are judged.

    Attributes:
        loss: mean loss of these tokens, in nats.
        total: their summed loss, in nats.
        reproduced: whether each of them is the model's likeliest token.
        lead: smallest distance, in logits, between such a token and the best other one.
    """

    loss: float
    total: float
    reproduced: bool
    lead: float


class Judge:
    """Scores candidates with a model.

    Args:
        gpt: the model; if it is sharded over devices, all of them must score the same questions.
        batch_tokens: tokens in a batch at most, padding included; None for the device's default.
        share: whether a common prefix of a question's candidates is read once, where that pays.

    Attributes:
        is_whole: whether all of the model is on this device.
    """

    def __init__(self, gpt: GPT, batch_tokens: int | None = None, share: bool = True) -> None:
        self.gpt = gpt
        on_cpu = gpt.device.type == "cpu"
        self.batch_tokens = batch_tokens or (CPU_BATCH_TOKENS if on_cpu else GPU_BATCH_TOKENS)
        self.is_whole = not is_sharded(gpt)
        self.share = share and self.is_whole  # a sharded model gathers its weights only in its own forward pass

    @torch.inference_mode()
    def answers(self, questions: Sequence[Question], on_done: Callable[[int], object] | None = None) -> list[bool]:
        """Whether the model answers each question correctly.

        Args:
            questions: their candidates fit into the context.
            on_done: called with the number of questions that have been read since the last call.
        """
        judged: list[list[Judged | None]] = [[None] * len(question.candidates) for question in questions]
        left = [len(question.candidates) for question in questions]
        for found in self._read(questions):
            done = 0
            for index, number, verdict in found:
                judged[index][number] = verdict
                left[index] -= 1
                done += not left[index]
            if on_done is not None and done:
                on_done(done)
        right = []
        for question, verdicts in zip(questions, judged, strict=True):
            whole = [verdict for verdict in verdicts if verdict is not None]
            if is_close(question, whole):
                whole = [self.alone(candidate) for candidate in question.candidates]
            right.append(is_right(question, whole))
        return right

    def judge(self, candidates: Sequence[Candidate]) -> list[Judged]:
        """The verdict on each of several unrelated candidates."""
        questions = [Question([candidate], 0, True) for candidate in candidates]
        found = {index: verdict for batch in self._read(questions) for index, _, verdict in batch}
        return [found[index] for index in range(len(candidates))]

    @torch.inference_mode()
    def alone(self, candidate: Candidate) -> Judged:
        """The verdict on one candidate, read alone by the model's own forward pass."""
        ids = torch.tensor([candidate.ids], device=self.gpt.device)
        return self._verdicts(self.gpt.hidden(ids)[0, candidate.start - 1 : -1], [candidate])[0]

    @torch.inference_mode()
    def _read(self, questions: Sequence[Question]) -> Iterator[list[tuple[int, int, Judged]]]:
        """Batches of (question, candidate, verdict), each of rows of about the same length; the longest first."""
        trees: list[Row] = []
        rows: list[Row] = []
        for index, question in enumerate(questions):
            for numbers in self._groups(question):
                texts, members = [question.candidates[n].ids for n in numbers], [(index, n) for n in numbers]
                prefix = min(common(*texts), min(map(len, texts)) - 1)
                if len(texts) > 1 and prefix and pays(texts, prefix, self.gpt.config.n_embd):
                    trees.append((Tree(texts, prefix), members))
                else:
                    rows += [(Tree([text], len(text)), [member]) for text, member in zip(texts, members, strict=True)]
        for batch in [*batches(trees, self.batch_tokens), *batches(rows, self.batch_tokens)]:
            shared = len(batch[0][0].texts) > 1
            x = hidden(self.gpt, [tree for tree, _ in batch]) if shared else self._plain(batch)
            yield self._collect(questions, batch, x)

    def _groups(self, question: Question) -> list[list[int]]:
        """The candidates in groups that may share a prefix."""
        if not self.share:
            return [[number] for number in range(len(question.candidates))]
        groups: dict[tuple[int, ...], list[int]] = {}
        for number, candidate in enumerate(question.candidates):
            groups.setdefault(tuple(candidate.ids[:PREFIX_KEY]), []).append(number)
        return list(groups.values())

    def _plain(self, batch: Sequence[Row]) -> Tensor:
        """:meth:`GPT.hidden` of single texts; padding comes last, where no token of the text looks."""
        ids = torch.zeros(len(batch), max(tree.size for tree, _ in batch), dtype=torch.int64)
        for row, (tree, _) in enumerate(batch):
            ids[row, : tree.size] = torch.tensor(tree.texts[0])
        return self.gpt.hidden(ids.to(self.gpt.device))

    def _collect(self, questions: Sequence[Question], batch: Sequence[Row], x: Tensor) -> list[tuple[int, int, Judged]]:
        """The verdicts on all candidates of a batch, from the batch's residual stream."""
        names, candidates, indices = [], [], []
        for row, (tree, members) in enumerate(batch):
            for text, (index, number) in enumerate(members):
                candidate = questions[index].candidates[number]
                names.append((index, number))
                candidates.append(candidate)
                before = range(candidate.start - 1, len(candidate.ids) - 1)  # the token before each judged one
                indices += [row * x.size(1) + tree.row_index(text, position) for position in before]
        verdicts = self._verdicts(x.flatten(0, 1)[torch.tensor(indices, device=x.device)], candidates)
        return [(*name, verdict) for name, verdict in zip(names, verdicts, strict=True)]

    def _verdicts(self, x: Tensor, candidates: Sequence[Candidate]) -> list[Judged]:
        """From the stream (tokens, n_embd) before each judged token of all candidates, in their order."""
        targets = torch.tensor([token for candidate in candidates for token in candidate.end], device=x.device)
        losses, leads, hits = [], [], []
        rows = max(1, MAX_LOGITS // self.gpt.vocab_size)
        for begin in range(0, len(x), rows):
            wanted = targets[begin : begin + rows]
            logits = self.gpt.unembed(x[begin : begin + rows])
            losses.append(F.cross_entropy(logits, wanted, reduction="none"))
            hits.append(logits.argmax(1) == wanted)  # of equally likely ones the first counts
            own = logits.gather(1, wanted[:, None])[:, 0]
            leads.append(own - logits.scatter(1, wanted[:, None], -torch.inf).amax(1))  # before the best other token
        loss, lead, hit = torch.cat(losses).cpu(), torch.cat(leads).cpu(), torch.cat(hits).cpu()
        verdicts, begin = [], 0
        for candidate in candidates:
            here = slice(begin, begin + len(candidate.end))
            begin = here.stop
            least = abs(float(lead[here].min()))
            verdicts.append(Judged(float(loss[here].mean()), float(loss[here].sum()), bool(hit[here].all()), least))
        return verdicts


def is_right(question: Question, verdicts: Sequence[Judged]) -> bool:
    """Whether the candidate with the lowest mean loss is the correct one; of equal ones the first counts."""
    if question.reproduce:
        return verdicts[0].reproduced
    return min(range(len(verdicts)), key=lambda number: verdicts[number].loss) == question.gold


def is_close(question: Question, verdicts: Sequence[Judged]) -> bool:
    """Whether rounding might decide the answer."""
    if question.reproduce:
        return verdicts[0].lead < CLOSE
    first, second = sorted(verdict.loss for verdict in verdicts)[:2]
    return second - first < CLOSE


def batches(rows: Sequence[Row], tokens: int) -> Iterator[list[Row]]:
    """Rows of similar lengths in batches of at most ``tokens`` tokens, padding included.

    The longest come first, so that a lack of memory shows at once.
    """
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: row[0].size, reverse=True):
        if batch and (len(batch) + 1) * batch[0][0].size > tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
