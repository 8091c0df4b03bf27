"""Losses by position, by token and in a passage, compared with results by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nanochat.analysis.model import loss_by_position, passage, tokens_by_loss
from nanochat.analysis.model.held_out_losses import (
    MAX_PASSAGE,
    MIN_PASSAGE,
    HeldOutLosses,
    held_out_losses,
    median_row,
)
from nanochat.analysis.model.loaded_model import sentence
from nanochat.analysis.model.token_labels import token_kind, token_label
from nanochat.tokenizer import Tokenizer
from tests.analysis.model.fakes import Rows, fake_loaded_model, texts
from tests.evaluation.models import bigrams, random_model
from tests.inference.models import byte_tokenizer

BOS = byte_tokenizer().bos


def losses_of(*tokens: tuple[int, int, int, float], rows: int = 2) -> HeldOutLosses:
    """Losses from (row, place, token, nats)."""
    row, position, token, nats = zip(*tokens, strict=True)
    return HeldOutLosses(np.array(row), np.array(position), np.array(token), np.array(nats, float), np.full(rows, BOS))


def test_held_out_losses_are_those_of_the_models_probabilities() -> None:
    gpt = random_model(0)
    rows = Rows([[BOS, 5, 6, 7], [BOS, 9, 6]], given=[9])
    losses = held_out_losses(gpt, rows, BOS)
    assert losses.row.tolist() == [0, 0, 0, 1]
    assert losses.position.tolist() == [1, 2, 3, 2]  # token 9 is not scored
    assert losses.token.tolist() == [5, 6, 7, 6]
    probabilities = gpt(torch.tensor([[BOS, 9]]))[0, -1].detach().softmax(-1)
    assert losses.nats[3] == pytest.approx(-math.log(probabilities[6]), abs=1e-5)
    assert losses.first_ids.tolist() == [BOS, BOS]


def test_bin_edges() -> None:
    assert loss_by_position.bin_edges(20).tolist() == [1, 2, 3, 4, 6, 8, 12, 16, 21]
    assert loss_by_position.bin_edges(1).tolist() == [1, 2]
    assert loss_by_position.bin_edges(512)[-2:].tolist() == [384, 513]


def test_mean_and_standard_error_by_position() -> None:
    losses = losses_of((0, 1, 7, 3.0), (1, 1, 7, 1.0), (0, 2, 7, 2.0), (0, 3, 7, 4.0), (1, 2, 7, 0.0))
    bins = loss_by_position.loss_by_position(losses, np.array([1, 2, 4]))
    assert bins.count.tolist() == [2, 3]
    assert bins.mean.tolist() == [2.0, 2.0]  # (3 + 1) / 2 and (2 + 4 + 0) / 3
    # rows: 3 - 2 and 1 - 2, so sqrt(2/1 * (1 + 1)) / 2 = 1; then 6 - 2*2 and 0 - 2, sqrt(2 * (4 + 4)) / 3
    assert bins.error.tolist() == pytest.approx([1.0, 4 / 3])


def test_standard_error_is_clustered_by_row() -> None:
    repeated = [(row, position, 7, float(row)) for row in (0, 1) for position in range(1, 51)]
    single = [(row, 1, 7, float(row)) for row in (0, 1)]
    edges = np.array([1, 51])
    assert loss_by_position.loss_by_position(losses_of(*repeated), edges).error == pytest.approx(
        loss_by_position.loss_by_position(losses_of(*single), edges).error
    )


def test_loss_by_token() -> None:
    by = tokens_by_loss.loss_by_token(losses_of((0, 1, 3, 1.0), (0, 2, 3, 3.0), (1, 1, 4, 5.0)), 6)
    assert by.count.tolist() == [0, 0, 0, 2, 1, 0]
    assert by.mean[3:5].tolist() == [2.0, 5.0]
    assert np.isnan(by.mean[0])
    assert by.error[3] == pytest.approx(1.0)  # a deviation of sqrt(2) over sqrt(2)
    assert np.isnan(by.error[4])


def test_tokens_by_loss_of_a_bigram_model() -> None:
    rows = texts(*["abab" * 20] * 3)
    figure = tokens_by_loss.figure(fake_loaded_model(bigrams({"a": "b"}), rows))
    assert figure.table is not None
    assert [row[:2] for row in figure.table.rows] == [["b", 120], ["a", 120]]
    predictable, unpredictable = (row[2] for row in figure.table.rows)
    # a logit of 8, capped to 15 tanh(8 / 15), against 264 logits of 0
    assert predictable == pytest.approx(math.log(1 + 264 * math.exp(-15 * math.tanh(8 / 15))), abs=2e-3)
    assert unpredictable == pytest.approx(math.log(265), abs=2e-3)
    assert figure.draw is not None
    figure.draw()


def test_passage_is_escaped_and_has_losses() -> None:
    loaded = fake_loaded_model(bigrams({"<": "b"}), texts("nothing"), passage="<b>&\n\n<script>alert(1)</script>")
    figure = passage.figure(loaded)
    assert figure.html is not None
    assert "<script" not in figure.html
    assert "<b>" not in figure.html
    assert "&lt;" in figure.html
    assert "the text of --passage" in figure.caption
    assert figure.table is not None
    assert figure.table.rows[0] == [0, "<|bos|>", None, None]
    assert figure.table.rows[1][3] == "1 in 265"
    assert figure.draw is not None
    figure.draw()


def test_unscored_tokens_are_grey() -> None:
    inputs = list(range(100, 100 + MIN_PASSAGE + 10))
    loaded = fake_loaded_model(random_model(1), Rows([[BOS, *inputs]] * 3, given=inputs[:50]))
    loaded.text.__dict__["description"] = "held-out conversations"
    assert not loaded.passage.scored[:50].any()
    assert loaded.passage.scored[50:].all()
    figure = passage.figure(loaded)
    assert "Grey text is the user's" in figure.caption
    assert figure.html is not None
    assert figure.html.count("color:var(--muted)") == 50 + 1  # and the first token


def test_median_row() -> None:
    lengths, means = (
        [MIN_PASSAGE, MIN_PASSAGE, MIN_PASSAGE, MIN_PASSAGE // 2, MAX_PASSAGE + 1],
        [3.0, 1.0, 2.0, 2.0, 2.0],
    )
    tokens = [(row, position, 1, means[row]) for row in range(5) for position in range(1, lengths[row] + 1)]
    assert median_row(losses_of(*tokens, rows=5), BOS) == 2
    assert median_row(losses_of((0, 1, 1, 3.0), rows=1), BOS) == 0  # the only row


def test_lay_out() -> None:
    laid = passage.lay_out([passage.PassageToken("ab", 1.0), passage.PassageToken("cd\n\nef", 2.0)], 3)
    assert [(line, column, piece.text) for line, column, piece in laid] == [
        (0, 0, "ab"),
        (0, 2, "c"),
        (1, 0, "d"),
        (3, 0, "ef"),
    ]


def test_sentence_of_the_passage() -> None:
    text = "pkg.mod.name(x)\n\nReturn the largest of all the values that there are. More follows."
    ids, description = sentence(fake_loaded_model(random_model(0), texts("x"), passage=text), 200)
    assert byte_tokenizer().decode(ids.tolist()) == "Return the largest of all the values that there are."
    assert description == "The text: the first 53 tokens of a sentence of the text of --passage, read without context."


def test_token_labels_and_kinds() -> None:
    tokenizer = Tokenizer([*(bytes([byte]) for byte in range(256)), b" the", b"\n\n", "é".encode()], 300)
    ids = [tokenizer.ids[token] for token in (b" the", b"\n\n", b"\xe2", b"\x00", "é".encode())]
    assert [token_label(tokenizer, i) for i in ids] == ["␣the", "↵↵", "\\xe2", "\\x00", "é"]
    assert [token_kind(tokenizer, i) for i in ids] == ["word", "blank", "bytes", "bytes", "inside a word"]
    assert token_label(tokenizer, tokenizer.bos) == "<|bos|>"
    assert (token_label(tokenizer, 280), token_kind(tokenizer, 280)) == ("(280)", "unused")


def test_loss_by_position_marks_the_training_length() -> None:
    loaded = fake_loaded_model(
        bigrams({"a": "b"}), texts(*["ab" * n for n in (2, 3, 4, 5, 6, 7, 8, 9, 20)]), "Not its own."
    )
    loaded.checkpoint["datamodule_hyper_parameters"] = {"row_length": 16, "context": 256}
    figure = loss_by_position.figure(loaded)
    assert "do not occur in training rows (16 tokens)" in figure.caption
    assert figure.caption.endswith("Not its own.")
    assert figure.table is not None
    assert figure.table.rows[0][:3] == [1, 1, 9]
    assert figure.draw is not None
    figure.draw()
