"""The spectrum of known matrices, and what a run began with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nanochat.analysis.figure import ModelOptions
from nanochat.analysis.history import History
from nanochat.analysis.model import model_figures, spectrum, training_samples
from nanochat.analysis.model.loaded_model import LoadedModel
from nanochat.analysis.single_run.other_curves import other_curves
from nanochat.runs import read_run
from nanochat.training.ranks import KINDS, effective_rank
from tests.cli.tools import tiny_options, train


def test_singular_values_are_those_of_the_decomposition() -> None:
    torch.manual_seed(0)
    for size in ((5, 9), (9, 5)):
        matrix = torch.randn(size)
        assert torch.allclose(spectrum.singular_values(matrix), torch.linalg.svdvals(matrix).double(), atol=1e-5)
    assert spectrum.singular_values(torch.diag(torch.tensor([1.0, -3, 2]))).tolist() == pytest.approx([3, 2, 1])


def test_ranks_of_known_matrices() -> None:
    orthogonal, _ = torch.linalg.qr(torch.randn(6, 4))
    for matrix, expected in (
        (torch.eye(4), 4.0),
        (orthogonal, 4.0),
        (torch.outer(torch.arange(1.0, 5), torch.arange(1.0, 4)), 1.0),
        (torch.diag(torch.tensor([2.0, -1, 1])), 6**2 / 18),  # squares 4, 1, 1; their squares add up to 18
        (torch.zeros(3, 2), 0.0),
    ):
        assert float(effective_rank(matrix)) == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def still(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose weights never move."""
    root = tmp_path_factory.mktemp("still")
    rates = [f"--model.{name}_lr=0" for name in ("matrix", "embedding", "head")]
    return train(tiny_options(corpus_folder, root), root, *rates)


def test_the_weights_that_a_run_began_with_are_drawn_again(still: Path) -> None:
    loaded = LoadedModel(read_run(still), ModelOptions())
    drawn, state = spectrum.initial_weights(loaded), torch.get_rng_state()
    assert drawn is not None
    kept = loaded.gpt.state_dict()
    assert all(torch.equal(drawn[name], weight) for name, weight in kept.items())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_ranks_of_the_weights_are_logged_at_each_validation(still: Path) -> None:
    loaded = LoadedModel(read_run(still), ModelOptions())
    figure = spectrum.ranks(loaded)
    assert figure.table is not None
    assert [row[0] for row in figure.table.rows] == [0, 2, 4]  # the beginning, and the validations
    for column, path in enumerate(KINDS.values(), 1):
        values = torch.linalg.svdvals(loaded.gpt.get_submodule(f"transformer.h.0.{path}").weight)
        expected = float(values.square().sum() ** 2 / values.pow(4).sum()) if values.any() else 0.0
        assert [row[column] for row in figure.table.rows] == pytest.approx([expected] * 3, abs=0.01)
    assert figure.table.rows[0][1] > 10  # type: ignore[operator]  # queries begin with all directions alike
    assert not [spec.name for spec in other_curves(History(loaded.run))]  # no other figure shows them as well


def test_a_run_that_began_with_other_weights_does_not_pretend(still: Path) -> None:
    loaded = LoadedModel(read_run(still), ModelOptions())
    for change in ({"start_from": "tiny"}, {"ckpt_path": "exports/some.ckpt"}, {"seed_everything": 43}):
        kept = dict(loaded.run.config)
        loaded.run.config.update(change)
        assert spectrum.initial_weights(loaded) is None
        loaded.run.config.clear()
        loaded.run.config.update(kept)
    assert spectrum.initial_weights(loaded) is not None


def test_the_texts_of_a_run_come_with_their_scores(still: Path) -> None:
    run = read_run(still)
    found = training_samples.with_scores(run, training_samples.read_samples(run.folder))
    assert [sample.step for sample in found] == [2, 4]
    assert all(sample.text.startswith("Return a list of") for sample in found)
    assert [sample.bpb for sample in found] == run.curve("val/bpb")[1]


def test_every_figure_of_a_run_is_made_from_its_own_held_out_text(still: Path) -> None:
    made = {spec.name: spec.build() for spec in model_figures(read_run(still), ModelOptions())}
    assert len(made) == 11
    for name, figure in made.items():
        assert figure.name == name
        assert figure.caption.endswith(".")
        assert "not the run's own" not in figure.caption
        if figure.draw is not None:
            figure.draw()
    assert "predictions" in made["loss_by_position"].table.columns  # type: ignore[union-attr]


def test_a_corpus_that_is_gone_is_said(still: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nanochat.analysis.model import held_out_text

    loaded = LoadedModel(read_run(still), ModelOptions())
    assert loaded.text.note == ""
    monkeypatch.setattr(held_out_text, "find_held_out", lambda *_: None)
    again = held_out_text.held_out_text(loaded.checkpoint, loaded.model.tokenizer, 64)
    assert again.note == ""  # the corpus itself is still there
    elsewhere = {**loaded.checkpoint["datamodule_hyper_parameters"], "corpus": str(tmp_path / "gone")}
    monkeypatch.setattr(held_out_text, "EMBEDDED", loaded.checkpoint["datamodule_hyper_parameters"]["corpus"])
    for corpus, why in ((elsewhere["corpus"], "gone"), ("climbmix", "nothing is fetched for this")):
        changed = {**loaded.checkpoint, "datamodule_hyper_parameters": {**elsewhere, "corpus": corpus}}
        text = held_out_text.held_out_text(changed, loaded.model.tokenizer, 64)
        assert text.note.startswith("These are not the run's own held-out text: ")
        assert why in text.note
    other = {**loaded.checkpoint, "TextDataModule": {**loaded.checkpoint["TextDataModule"], "corpus": "0" * 16}}
    assert "not what it was" in held_out_text.held_out_text(other, loaded.model.tokenizer, 64).note


def test_line_ends_of_texts_are_kept_and_markup_is_escaped() -> None:
    assert "&lt;b&gt;" in training_samples.as_html([training_samples.Sample(3, "a\n<b>", None)])
    assert training_samples.wrapped("abcd\n\nef\ngh", 3, 3) == ["abc", "d", "..."]
    assert training_samples.wrapped("\n", 3, 3) == ["(nothing)"]
