"""Which questions of CORE a model answers rightly: many at a time, and yet each as if it were asked alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat.evaluation.branches import Tree, hidden, pays
from nanochat.evaluation.prompts import Candidate, Question, common
from nanochat.inference.decoder import is_sharded
from nanochat.model import GPT
from nanochat.model.loss import softcap

# Of a small model on a CPU: larger batches are no quicker, and their activations leave the caches.
CPU_BATCH_TOKENS = 4096
GPU_BATCH_TOKENS = 65_536
LOGITS = 2**25  # at most so many at a time: 128 MiB
# Sums are rounded differently in a batch of another shape, which moves the loss of a text by some millionths (at most
# by 3e-5 in 18 tasks). Where a decision is closer than this, the question is asked again by itself: so it never depends
# on what it was batched with. (Not so in bfloat16, whose rounding is coarser than most differences.)
CLOSE = 1e-4
BEGINNING = 8  # tokens by which candidates are taken to begin alike
Row = tuple[Tree, list[tuple[int, int]]]  # what goes through the model, and whose it is: question and candidate


class Judged(NamedTuple):
    """What a model says to a candidate's end.

    Attributes:
        loss: the mean loss of its tokens, in nats.
        total: their sum.
        reproduced: whether each of them is the likeliest.
        lead: by how much the likeliest token leads at the place where that decides: the smallest distance to another
            one where all are reproduced, else the largest by which one is not.
    """

    loss: float
    total: float
    reproduced: bool
    lead: float


class Judge:
    """Reads candidates with a model.

    Args:
        gpt: the model; where it is sharded over devices, all of them must ask the same.
        batch_tokens: how many tokens go through it at a time, padding included; None for what suits the device.
        share: whether what candidates of a question begin with alike is read once, where that pays.

    Attributes:
        is_whole: whether all of the model is on this device.
    """

    def __init__(self, gpt: GPT, batch_tokens: int | None = None, share: bool = True) -> None:
        self.gpt = gpt
        self.device = gpt.embedding.weight.device
        on_cpu = self.device.type == "cpu"
        self.batch_tokens = batch_tokens or (CPU_BATCH_TOKENS if on_cpu else GPU_BATCH_TOKENS)
        self.is_whole = not is_sharded(gpt)
        self.share = share and self.is_whole  # a sharded model gathers its weights only in its own forward pass

    @torch.inference_mode()
    def answers(self, questions: Sequence[Question], on_done: Callable[[int], object] | None = None) -> list[bool]:
        """Whether each question is answered rightly.

        Args:
            questions: their candidates fit into the context.
            on_done: is told, as it goes, how many more questions have been read.
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
        """What the model says to each of some candidates that have nothing to do with each other."""
        questions = [Question([candidate], 0, True) for candidate in candidates]
        found = {index: verdict for batch in self._read(questions) for index, _, verdict in batch}
        return [found[index] for index in range(len(candidates))]

    @torch.inference_mode()
    def alone(self, candidate: Candidate) -> Judged:
        """By the model's own forward pass, with nothing beside it."""
        ids = torch.tensor([candidate.ids], device=self.device)
        vectors = self.gpt.hidden(ids)[0, candidate.start - 1 : -1]
        return self._verdicts(vectors, [candidate])[0]

    @torch.inference_mode()
    def _read(self, questions: Sequence[Question]) -> Iterator[list[tuple[int, int, Judged]]]:
        """Batches of (question, candidate, verdict), each of rows of about the same length; the longest first."""
        trees: list[Row] = []
        rows: list[Row] = []
        for index, question in enumerate(questions):
            for numbers in self._alike(question):
                texts, members = [question.candidates[n].ids for n in numbers], [(index, n) for n in numbers]
                trunk = min(common(*texts), min(map(len, texts)) - 1)
                if len(texts) > 1 and trunk and pays(texts, trunk, self.gpt.shape.width):
                    trees.append((Tree(texts, trunk), members))
                else:
                    rows += [(Tree([text], len(text)), [member]) for text, member in zip(texts, members, strict=True)]
        for batch in [*batches(trees, self.batch_tokens), *batches(rows, self.batch_tokens)]:
            shared = len(batch[0][0].texts) > 1
            vectors = hidden(self.gpt, [tree for tree, _ in batch]) if shared else self._plain(batch)
            yield self._take(questions, batch, vectors)

    def _alike(self, question: Question) -> list[list[int]]:
        """The candidates in groups that may share their beginning.

        Of texts that are longer than the context, those of the same length begin at the same place.
        """
        if not self.share:
            return [[number] for number in range(len(question.candidates))]
        groups: dict[tuple[int, ...], list[int]] = {}
        for number, candidate in enumerate(question.candidates):
            groups.setdefault(tuple(candidate.ids[:BEGINNING]), []).append(number)
        return list(groups.values())

    def _plain(self, batch: Sequence[Row]) -> Tensor:
        """By the model's own forward pass: padding stands behind a text, where no token of it looks."""
        ids = torch.zeros(len(batch), max(tree.size for tree, _ in batch), dtype=torch.int64)
        for row, (tree, _) in enumerate(batch):
            ids[row, : tree.size] = torch.tensor(tree.texts[0])
        return self.gpt.hidden(ids.to(self.device))

    def _take(
        self, questions: Sequence[Question], batch: Sequence[Row], vectors: Tensor
    ) -> list[tuple[int, int, Judged]]:
        """The verdicts on all candidates of a batch, from the vectors at the tokens before those that are judged."""
        names, candidates, places = [], [], []
        for row, (tree, members) in enumerate(batch):
            for text, (index, number) in enumerate(members):
                candidate = questions[index].candidates[number]
                names.append((index, number))
                candidates.append(candidate)
                spots = [tree.place(text, p) for p in range(candidate.start - 1, len(candidate.ids) - 1)]
                places += [row * vectors.size(1) + spot for spot in spots]
        chosen = vectors.flatten(0, 1)[torch.tensor(places, device=vectors.device)]
        verdicts = self._verdicts(chosen, candidates)
        return [(*name, verdict) for name, verdict in zip(names, verdicts, strict=True)]

    def _verdicts(self, vectors: Tensor, candidates: Sequence[Candidate]) -> list[Judged]:
        """From the vectors (tokens, width) before each judged token of all candidates, in their order."""
        targets = torch.tensor([token for candidate in candidates for token in candidate.end], device=vectors.device)
        losses, leads, hits = [], [], []
        rows = max(1, LOGITS // self.gpt.vocab_size)
        for begin in range(0, len(vectors), rows):
            some, wanted = vectors[begin : begin + rows], targets[begin : begin + rows]
            logits = softcap(F.linear(some, self.gpt.head.weight.to(some.dtype)))
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
    """Whether the candidate with the lowest mean loss is the right one; of equal ones the first counts."""
    if question.reproduce:
        return verdicts[0].reproduced
    return min(range(len(verdicts)), key=lambda number: verdicts[number].loss) == question.gold


def is_close(question: Question, verdicts: Sequence[Judged]) -> bool:
    """Whether rounding might decide."""
    if question.reproduce:
        return verdicts[0].lead < CLOSE
    first, second = sorted(verdict.loss for verdict in verdicts)[:2]
    return second - first < CLOSE


def batches(rows: Sequence[Row], tokens: int) -> Iterator[list[Row]]:
    """Rows of similar lengths together, at most so many tokens with their padding; the longest first.

    (If memory does not suffice, that shows at once.)
    """
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: row[0].size, reverse=True):
        if batch and (len(batch) + 1) * batch[0][0].size > tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
