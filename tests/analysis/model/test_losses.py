"""Losses by place, by token and in a passage: worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nanochat.analysis.model import loss_by_position, passage, tokens_by_loss
from nanochat.analysis.model.loaded_model import LONG, SHORT, HeldOutLosses, held_out_losses, sentence, typical_row
from nanochat.analysis.model.token_labels import token_kind, token_label
from nanochat.tokenizer import Tokenizer
from tests.analysis.model.fakes import Rows, fake_model, texts
from tests.evaluation.models import bigrams, random_model
from tests.inference.models import byte_tokenizer

BOS = byte_tokenizer().bos


def table(*tokens: tuple[int, int, int, float], rows: int = 2) -> HeldOutLosses:
    """Losses from (row, place, token, nats)."""
    row, position, token, nats = zip(*tokens, strict=True)
    return HeldOutLosses(np.array(row), np.array(position), np.array(token), np.array(nats, float), np.full(rows, BOS))


def test_each_token_has_the_loss_that_the_models_own_probabilities_give_it() -> None:
    gpt = random_model(0)
    rows = Rows([[BOS, 5, 6, 7], [BOS, 9, 6]], given=[9])
    losses = held_out_losses(gpt, rows, BOS)
    assert losses.row.tolist() == [0, 0, 0, 1]
    assert losses.position.tolist() == [1, 2, 3, 2]  # the 9 is given, not guessed
    assert losses.token.tolist() == [5, 6, 7, 6]
    chances = gpt(torch.tensor([[BOS, 9]]))[0, -1].detach().softmax(-1)
    assert losses.nats[3] == pytest.approx(-math.log(chances[6]), abs=1e-5)
    assert losses.first_ids.tolist() == [BOS, BOS]


def test_places_are_put_into_stretches_that_leave_none_out() -> None:
    assert loss_by_position.position_bins(20).tolist() == [1, 2, 3, 4, 6, 8, 12, 16, 21]
    assert loss_by_position.position_bins(1).tolist() == [1, 2]
    assert loss_by_position.position_bins(512)[-2:].tolist() == [384, 513]


def test_the_mean_and_its_error_by_place() -> None:
    losses = table((0, 1, 7, 3.0), (1, 1, 7, 1.0), (0, 2, 7, 2.0), (0, 3, 7, 4.0), (1, 2, 7, 0.0))
    bins = loss_by_position.loss_by_position(losses, np.array([1, 2, 4]))
    assert bins.count.tolist() == [2, 3]
    assert bins.mean.tolist() == [2.0, 2.0]  # (3 + 1) / 2 and (2 + 4 + 0) / 3
    # rows: 3 - 2 and 1 - 2, so sqrt(2/1 * (1 + 1)) / 2 = 1; then 6 - 2*2 and 0 - 2, sqrt(2 * (4 + 4)) / 3
    assert bins.error.tolist() == pytest.approx([1.0, 4 / 3])


def test_tokens_of_one_row_do_not_make_a_mean_any_surer() -> None:
    twice = [(row, position, 7, float(row)) for row in (0, 1) for position in range(1, 51)]
    once = [(row, 1, 7, float(row)) for row in (0, 1)]
    edges = np.array([1, 51])
    assert loss_by_position.loss_by_position(table(*twice), edges).error == pytest.approx(
        loss_by_position.loss_by_position(table(*once), edges).error
    )


def test_loss_by_token() -> None:
    by = tokens_by_loss.loss_by_token(table((0, 1, 3, 1.0), (0, 2, 3, 3.0), (1, 1, 4, 5.0)), 6)
    assert by.count.tolist() == [0, 0, 0, 2, 1, 0]
    assert by.mean[3:5].tolist() == [2.0, 5.0]
    assert np.isnan(by.mean[0])
    assert by.error[3] == pytest.approx(1.0)  # a deviation of sqrt(2) over sqrt(2)
    assert np.isnan(by.error[4])


def test_a_model_that_knows_what_follows_finds_that_token_easy() -> None:
    rows = texts(*["abab" * 20] * 3)
    figure = tokens_by_loss.figure(fake_model(bigrams({"a": "b"}), rows))
    assert figure.table is not None
    assert [row[:2] for row in figure.table.rows] == [["b", 120], ["a", 120]]
    easy, hard = (row[2] for row in figure.table.rows)
    # logits 8 against 0 of 264 others, capped: 15 tanh(8 / 15)
    assert easy == pytest.approx(math.log(1 + 264 * math.exp(-15 * math.tanh(8 / 15))), abs=2e-3)
    assert hard == pytest.approx(math.log(265), abs=2e-3)
    assert figure.draw is not None
    figure.draw()


def test_a_passage_is_escaped_and_says_its_losses() -> None:
    loaded = fake_model(bigrams({"<": "b"}), texts("nothing"), passage="<b>&\n\n<script>alert(1)</script>")
    figure = passage.figure(loaded)
    assert figure.html is not None
    assert "<script" not in figure.html
    assert "<b>" not in figure.html
    assert "&lt;" in figure.html
    assert "the text given" in figure.caption
    assert figure.table is not None
    assert figure.table.rows[0] == [0, "<|bos|>", None, None]
    assert figure.table.rows[1][3] == "1 in 265"
    assert figure.draw is not None
    figure.draw()


def test_what_the_user_said_is_grey() -> None:
    inputs = list(range(100, 100 + SHORT + 10))
    loaded = fake_model(random_model(1), Rows([[BOS, *inputs]] * 3, given=inputs[:50]))
    loaded.text.__dict__["description"] = "held-out conversations"
    assert not loaded.passage.scored[:50].any()
    assert loaded.passage.scored[50:].all()
    figure = passage.figure(loaded)
    assert "What is grey is given" in figure.caption
    assert figure.html is not None
    assert figure.html.count("color:var(--muted)") == 50 + 1  # these and the first token


def test_the_passage_is_of_middling_difficulty_and_length() -> None:
    lengths, means = [SHORT, SHORT, SHORT, SHORT // 2, LONG + 1], [3.0, 1.0, 2.0, 2.0, 2.0]
    tokens = [(row, position, 1, means[row]) for row in range(5) for position in range(1, lengths[row] + 1)]
    assert typical_row(table(*tokens, rows=5), BOS) == 2
    assert typical_row(table((0, 1, 1, 3.0), rows=1), BOS) == 0  # there is no other


def test_lines_break_where_the_text_does_and_where_they_are_full() -> None:
    laid = passage.lay_out([passage.PassageToken("ab", 1.0), passage.PassageToken("cd\n\nef", 2.0)], 3)
    assert [(line, column, piece.text) for line, column, piece in laid] == [
        (0, 0, "ab"),
        (0, 2, "c"),
        (1, 0, "d"),
        (3, 0, "ef"),
    ]


def test_a_sentence_is_taken_out_of_the_passage() -> None:
    text = "pkg.mod.name(x)\n\nReturn the largest of all the values that there are. More follows."
    ids, description = sentence(fake_model(random_model(0), texts("x"), passage=text), 200)
    assert byte_tokenizer().decode(ids.tolist()) == "Return the largest of all the values that there are."
    assert description.startswith("A sentence of the text given")


def test_labels_show_what_cannot_be_seen() -> None:
    tokenizer = Tokenizer([*(bytes([byte]) for byte in range(256)), b" the", b"\n\n", "é".encode()], 300)
    ids = [tokenizer.ids[token] for token in (b" the", b"\n\n", b"\xe2", b"\x00", "é".encode())]
    assert [token_label(tokenizer, i) for i in ids] == ["␣the", "↵↵", "\\xe2", "\\x00", "é"]
    assert [token_kind(tokenizer, i) for i in ids] == ["word", "blank", "bytes", "bytes", "inside a word"]
    assert token_label(tokenizer, tokenizer.bos) == "<|bos|>"
    assert (token_label(tokenizer, 280), token_kind(tokenizer, 280)) == ("(280)", "unused")


def test_the_curve_by_place_says_where_training_ended() -> None:
    loaded = fake_model(bigrams({"a": "b"}), texts(*["ab" * n for n in (2, 3, 4, 5, 6, 7, 8, 9, 20)]), "Not its own.")
    loaded.checkpoint["datamodule_hyper_parameters"] = {"row_length": 16, "context": 256}
    figure = loss_by_position.figure(loaded)
    assert "places that no row of the training had (16 tokens)" in figure.caption
    assert figure.caption.endswith("Not its own.")
    assert figure.table is not None
    assert figure.table.rows[0][:3] == [1, 1, 9]
    assert figure.draw is not None
    figure.draw()
