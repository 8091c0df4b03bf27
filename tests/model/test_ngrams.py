"""The table of n-grams: which rows are read, and that a model with it is still causal and decodes as it reads."""

from __future__ import annotations

import pytest
import torch

from nanochat.model import GPT
from nanochat.model.ngrams import NgramEmbedding


def filled(longest: int, slots: int = 2**16, predecessors: int = 0) -> NgramEmbedding:
    ngrams = NgramEmbedding(longest, slots, 4, predecessors, vocab_size=300)
    torch.nn.init.normal_(ngrams.table)
    return ngrams


def test_the_same_tokens_read_the_same_rows_wherever_they_stand() -> None:
    rows = NgramEmbedding(3, 2**16, 4).rows(torch.tensor([[5, 6, 7, 5, 6, 7, 9, 6, 7]]))[0]
    assert rows.shape == (9, 2)
    assert rows[5].tolist() == rows[2].tolist()  # 5 6 7
    assert rows[8, 0] == rows[2, 0]  # 6 7
    assert rows[8, 1] != rows[2, 1]  # but 9 6 7
    assert rows[1, 0] != rows[2, 0]
    assert rows[0, 0] != rows[3, 0]
    assert rows[:, 0].max() < 2**16 <= rows[:, 1].min()  # pairs and triples have rows of their own


def test_pairs_are_spread_evenly() -> None:
    ids = torch.cartesian_prod(torch.arange(200), torch.arange(200))
    rows = NgramEmbedding(2, 4096, 4).rows(ids)[:, 1, 0]
    counts = torch.bincount(rows, minlength=4096)
    assert counts.max() < 40
    assert (counts == 0).sum() < 20


def test_each_predecessor_reads_a_row_of_its_own() -> None:
    rows = NgramEmbedding(3, 10, 4, predecessors=2, vocab_size=8).rows(torch.tensor([[5, 6, 7, 6]]))[0]
    # behind the 20 rows of pairs and triples: 9 for the token before (the first for none), 9 for the one before that
    assert rows[:, 2].tolist() == [20, 20 + 1 + 5, 20 + 1 + 6, 20 + 1 + 7]
    assert rows[:, 3].tolist() == [29, 29, 29 + 1 + 5, 29 + 1 + 6]
    assert NgramEmbedding(3, 10, 4, predecessors=2, vocab_size=8).table.shape == (38, 4)


@pytest.mark.parametrize(("longest", "predecessors"), [(3, 3), (2, -1)])
def test_no_predecessor_is_farther_back_than_an_ngram(longest: int, predecessors: int) -> None:
    with pytest.raises(ValueError, match="of the tokens before"):
        NgramEmbedding(longest, 10, 4, predecessors, vocab_size=8)
    assert GPT(1, 50, 32, width=32, heads=2, predecessors=1).ngrams is None  # which leaves them out alone


@pytest.mark.parametrize(("longest", "predecessors"), [(2, 0), (3, 0), (5, 0), (2, 1), (3, 1), (5, 4)])
def test_what_came_before_may_be_told_in_pieces(longest: int, predecessors: int) -> None:
    ngrams, ids = filled(longest, predecessors=predecessors), torch.randint(0, 300, (2, 9))
    whole = ngrams(ids)
    for cut in range(9):
        parts = [ngrams(ids[:, :cut]), ngrams(ids[:, cut:], ids[:, :cut])] if cut else [ngrams(ids, ids[:, :0])]
        torch.testing.assert_close(torch.cat(parts, 1), whole)


@pytest.mark.parametrize(("longest", "predecessors"), [(2, 0), (3, 0), (5, 0), (2, 1), (3, 1), (5, 4)])
def test_rows_in_plain_numbers_are_those_in_tensors(longest: int, predecessors: int) -> None:
    ngrams, ids = NgramEmbedding(longest, 1000, 4, predecessors, vocab_size=60_000), torch.randint(0, 60_000, (1, 9))
    rows = [ngrams.rows_at(ids[0].tolist(), place) for place in range(9)]
    assert rows == ngrams.rows(ids)[0].tolist()


def test_sparse_and_dense_gradients_are_the_same() -> None:
    gradients = []
    for sparse in (False, True):
        torch.manual_seed(0)
        ngrams = filled(3, 64)
        ngrams.sparse = sparse
        ngrams(torch.randint(0, 9, (2, 30))).square().sum().backward()
        assert ngrams.table.grad is not None
        assert ngrams.table.grad.is_sparse == sparse
        gradients.append(ngrams.table.grad.to_dense())
    torch.testing.assert_close(gradients[1], gradients[0])


def model() -> GPT:
    torch.manual_seed(0)
    gpt = GPT(2, 50, 32, width=32, heads=2, ngrams=3, ngram_slots=100, predecessors=2)
    for p in gpt.parameters():
        torch.nn.init.normal_(p, std=p.size(-1) ** -0.5)
    return gpt


def test_a_later_token_never_changes_an_earlier_logit() -> None:
    gpt, ids = model(), torch.randint(0, 50, (2, 20))
    before = gpt(ids)
    for place in range(1, 20):
        changed = ids.clone()
        changed[:, place] = (changed[:, place] + 1) % 50
        torch.testing.assert_close(gpt(changed)[:, :place], before[:, :place], rtol=0, atol=1e-6)


@pytest.mark.parametrize("pieces", [[1] * 20, [19, 1], [7, 6, 7]])
def test_cached_decoding_gives_the_logits_of_the_full_forward_pass(pieces: list[int]) -> None:
    gpt, ids = model(), torch.randint(0, 50, (3, 20))
    cache = gpt.new_cache(3)
    with torch.no_grad():
        logits = [gpt(piece, cache) for piece in ids.split(pieces, 1)]
    torch.testing.assert_close(torch.cat(logits, 1), gpt(ids), rtol=1e-4, atol=1e-5)


def test_its_parameters_are_counted_but_not_as_work() -> None:
    with torch.device("meta"):
        with_ngrams, without = GPT(4, 512, 512, ngrams=3, ngram_slots=1000), GPT(4, 512, 512)
    assert with_ngrams.num_parameters - without.num_parameters == with_ngrams.num_ngram_parameters == 2 * 1000 * 256
    assert with_ngrams.num_matmul_parameters == without.num_matmul_parameters
    with torch.device("meta"):
        more = GPT(4, 512, 512, ngrams=3, ngram_slots=1000, predecessors=1)
    assert more.num_ngram_parameters == (2 * 1000 + 513) * 256
    for gpt in (with_ngrams, more):
        assert GPT(**gpt.sizes).sizes == gpt.sizes
