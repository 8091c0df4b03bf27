"""Losses by place, by token and in a passage: worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nanochat.analysis.model import easy_and_hard, passage, position
from nanochat.analysis.model.labels import kind, label
from nanochat.analysis.model.subject import LONG, SHORT, Losses, sentence, token_losses, typical_row
from nanochat.tokenizer import Tokenizer
from tests.analysis.model.models import Rows, subject_of, texts
from tests.evaluation.models import bigrams, random_model
from tests.inference.models import byte_tokenizer

BOS = byte_tokenizer().bos


def table(*tokens: tuple[int, int, int, float], rows: int = 2) -> Losses:
    """Losses from (row, place, token, nats)."""
    row, place, token, nats = zip(*tokens, strict=True)
    return Losses(np.array(row), np.array(place), np.array(token), np.array(nats, float), np.full(rows, BOS))


def test_each_token_has_the_loss_that_the_models_own_probabilities_give_it() -> None:
    gpt = random_model(0)
    rows = Rows([[BOS, 5, 6, 7], [BOS, 9, 6]], given=[9])
    losses = token_losses(gpt, rows, BOS)
    assert losses.row.tolist() == [0, 0, 0, 1]
    assert losses.place.tolist() == [1, 2, 3, 2]  # the 9 is given, not guessed
    assert losses.token.tolist() == [5, 6, 7, 6]
    chances = gpt(torch.tensor([[BOS, 9]]))[0, -1].detach().softmax(-1)
    assert losses.nats[3] == pytest.approx(-math.log(chances[6]), abs=1e-5)
    assert losses.begins.tolist() == [BOS, BOS]


def test_places_are_put_into_stretches_that_leave_none_out() -> None:
    assert position.stretches(20).tolist() == [1, 2, 3, 4, 6, 8, 12, 16, 21]
    assert position.stretches(1).tolist() == [1, 2]
    assert position.stretches(512)[-2:].tolist() == [384, 513]


def test_the_mean_and_its_error_by_place() -> None:
    losses = table((0, 1, 7, 3.0), (1, 1, 7, 1.0), (0, 2, 7, 2.0), (0, 3, 7, 4.0), (1, 2, 7, 0.0))
    bins = position.loss_by_place(losses, np.array([1, 2, 4]))
    assert bins.count.tolist() == [2, 3]
    assert bins.mean.tolist() == [2.0, 2.0]  # (3 + 1) / 2 and (2 + 4 + 0) / 3
    # rows: 3 - 2 and 1 - 2, so sqrt(2/1 * (1 + 1)) / 2 = 1; then 6 - 2*2 and 0 - 2, sqrt(2 * (4 + 4)) / 3
    assert bins.error.tolist() == pytest.approx([1.0, 4 / 3])


def test_tokens_of_one_row_do_not_make_a_mean_any_surer() -> None:
    twice = [(row, place, 7, float(row)) for row in (0, 1) for place in range(1, 51)]
    once = [(row, 1, 7, float(row)) for row in (0, 1)]
    edges = np.array([1, 51])
    assert position.loss_by_place(table(*twice), edges).error == pytest.approx(
        position.loss_by_place(table(*once), edges).error
    )


def test_loss_by_token() -> None:
    by = easy_and_hard.loss_by_token(table((0, 1, 3, 1.0), (0, 2, 3, 3.0), (1, 1, 4, 5.0)), 6)
    assert by.count.tolist() == [0, 0, 0, 2, 1, 0]
    assert by.mean[3:5].tolist() == [2.0, 5.0]
    assert np.isnan(by.mean[0])
    assert by.error[3] == pytest.approx(1.0)  # a deviation of sqrt(2) over sqrt(2)
    assert np.isnan(by.error[4])


def test_a_model_that_knows_what_follows_finds_that_token_easy() -> None:
    rows = texts(*["abab" * 20] * 3)
    figure = easy_and_hard.figure(subject_of(bigrams({"a": "b"}), rows))
    assert figure.table is not None
    assert [row[:2] for row in figure.table.rows] == [["b", 120], ["a", 120]]
    easy, hard = (row[2] for row in figure.table.rows)
    # logits 8 against 0 of 264 others, capped: 15 tanh(8 / 15)
    assert easy == pytest.approx(math.log(1 + 264 * math.exp(-15 * math.tanh(8 / 15))), abs=2e-3)
    assert hard == pytest.approx(math.log(265), abs=2e-3)
    assert figure.draw is not None
    figure.draw()


def test_a_passage_is_escaped_and_says_its_losses() -> None:
    subject = subject_of(bigrams({"<": "b"}), texts("nothing"), passage="<b>&\n\n<script>alert(1)</script>")
    figure = passage.figure(subject)
    assert figure.html is not None
    assert "<script" not in figure.html
    assert "<b>" not in figure.html
    assert "&lt;" in figure.html
    assert "the text given" in figure.reading
    assert figure.table is not None
    assert figure.table.rows[0] == [0, "<|bos|>", None, None]
    assert figure.table.rows[1][3] == "1 in 265"
    assert figure.draw is not None
    figure.draw()


def test_what_the_user_said_is_grey() -> None:
    inputs = list(range(100, 100 + SHORT + 10))
    subject = subject_of(random_model(1), Rows([[BOS, *inputs]] * 3, given=inputs[:50]))
    subject.text.__dict__["words"] = "held-out conversations"
    assert not subject.passage.asked[:50].any()
    assert subject.passage.asked[50:].all()
    figure = passage.figure(subject)
    assert "What is grey is given" in figure.reading
    assert figure.html is not None
    assert figure.html.count("color:var(--muted)") == 50 + 1  # these and the first token


def test_the_passage_is_of_middling_difficulty_and_length() -> None:
    lengths, means = [SHORT, SHORT, SHORT, SHORT // 2, LONG + 1], [3.0, 1.0, 2.0, 2.0, 2.0]
    tokens = [(row, place, 1, means[row]) for row in range(5) for place in range(1, lengths[row] + 1)]
    assert typical_row(table(*tokens, rows=5), BOS) == 2
    assert typical_row(table((0, 1, 1, 3.0), rows=1), BOS) == 0  # there is no other


def test_lines_break_where_the_text_does_and_where_they_are_full() -> None:
    laid = passage.laid_out([passage.Piece("ab", 1.0), passage.Piece("cd\n\nef", 2.0)], 3)
    assert [(line, column, piece.text) for line, column, piece in laid] == [
        (0, 0, "ab"),
        (0, 2, "c"),
        (1, 0, "d"),
        (3, 0, "ef"),
    ]


def test_a_sentence_is_taken_out_of_the_passage() -> None:
    text = "pkg.mod.name(x)\n\nReturn the largest of all the values that there are. More follows."
    ids, words = sentence(subject_of(random_model(0), texts("x"), passage=text), 200)
    assert byte_tokenizer().decode(ids.tolist()) == "Return the largest of all the values that there are."
    assert words.startswith("A sentence of the text given")


def test_labels_show_what_cannot_be_seen() -> None:
    tokenizer = Tokenizer([*(bytes([byte]) for byte in range(256)), b" the", b"\n\n", "é".encode()], 300)
    ids = [tokenizer.ids[token] for token in (b" the", b"\n\n", b"\xe2", b"\x00", "é".encode())]
    assert [label(tokenizer, i) for i in ids] == ["␣the", "↵↵", "\\xe2", "\\x00", "é"]
    assert [kind(tokenizer, i) for i in ids] == ["word", "blank", "bytes", "bytes", "inside a word"]
    assert label(tokenizer, tokenizer.bos) == "<|bos|>"
    assert (label(tokenizer, 280), kind(tokenizer, 280)) == ("(280)", "unused")


def test_the_curve_by_place_says_where_training_ended() -> None:
    subject = subject_of(bigrams({"a": "b"}), texts(*["ab" * n for n in (2, 3, 4, 5, 6, 7, 8, 9, 20)]), "Not its own.")
    subject.checkpoint["datamodule_hyper_parameters"] = {"row_length": 16, "context": 256}
    figure = position.figure(subject)
    assert "places that no row of the training had (16 tokens)" in figure.reading
    assert figure.reading.endswith("Not its own.")
    assert figure.table is not None
    assert figure.table.rows[0][:3] == [1, 1, 9]
    assert figure.draw is not None
    figure.draw()
