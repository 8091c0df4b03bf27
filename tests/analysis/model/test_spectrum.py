"""Singular values and ranks of known matrices, initial weights, samples, and all figures of a trained run."""

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
from nanochat.training.callbacks.weight_rank import KINDS, effective_rank
from tests.cli.tools import tiny_options, train


def test_singular_values() -> None:
    torch.manual_seed(0)
    for size in ((5, 9), (9, 5)):
        matrix = torch.randn(size)
        assert torch.allclose(spectrum.singular_values(matrix), torch.linalg.svdvals(matrix).double(), atol=1e-5)
    assert spectrum.singular_values(torch.diag(torch.tensor([1.0, -3, 2]))).tolist() == pytest.approx([3, 2, 1])


def test_effective_rank_of_known_matrices() -> None:
    orthogonal, _ = torch.linalg.qr(torch.randn(6, 4))
    for matrix, expected in (
        (torch.eye(4), 4.0),
        (orthogonal, 4.0),
        (torch.outer(torch.arange(1.0, 5), torch.arange(1.0, 4)), 1.0),
        (torch.diag(torch.tensor([2.0, -1, 1])), 6**2 / 18),  # squares 4, 1, 1, whose squares sum to 18
        (torch.zeros(3, 2), 0.0),
    ):
        assert float(effective_rank(matrix)) == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def frozen(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with learning rates of 0."""
    root = tmp_path_factory.mktemp("frozen")
    rates = [f"--model.{name}_lr=0" for name in ("matrix", "embedding", "head")]
    return train(tiny_options(corpus_folder, root), root, *rates)


def test_initial_weights_are_reproduced(frozen: Path) -> None:
    loaded = LoadedModel(read_run(frozen), ModelOptions())
    initial, state = spectrum.initial_weights(loaded), torch.get_rng_state()
    assert initial is not None
    trained = loaded.gpt.state_dict()
    assert all(torch.equal(initial[name], weight) for name, weight in trained.items())
    assert torch.equal(torch.get_rng_state(), state)


def test_ranks_are_logged_at_each_validation(frozen: Path) -> None:
    loaded = LoadedModel(read_run(frozen), ModelOptions())
    figure = spectrum.ranks(loaded)
    assert figure.table is not None
    assert [row[0] for row in figure.table.rows] == [0, 2, 4]  # the initialisation, and the validations
    for column, path in enumerate(KINDS.values(), 1):
        values = torch.linalg.svdvals(loaded.gpt.get_submodule(f"transformer.h.0.{path}").weight)
        expected = float(values.square().sum() ** 2 / values.pow(4).sum()) if values.any() else 0.0
        assert [row[column] for row in figure.table.rows] == pytest.approx([expected] * 3, abs=0.01)
    assert figure.table.rows[0][1] > 10  # type: ignore[operator]  # random queries use many directions
    assert not [spec.name for spec in other_curves(History(loaded.run))]  # not repeated among the other curves


def test_initial_weights_are_unknown_after_a_warm_start(frozen: Path) -> None:
    loaded = LoadedModel(read_run(frozen), ModelOptions())
    for change in ({"start_from": "tiny"}, {"ckpt_path": "exports/some.ckpt"}, {"seed_everything": 43}):
        kept = dict(loaded.run.config)
        loaded.run.config.update(change)
        assert spectrum.initial_weights(loaded) is None
        loaded.run.config.clear()
        loaded.run.config.update(kept)
    assert spectrum.initial_weights(loaded) is not None


def test_samples_with_scores(frozen: Path) -> None:
    run = read_run(frozen)
    found = training_samples.with_scores(run, training_samples.read_samples(run.folder))
    assert [sample.step for sample in found] == [2, 4]
    assert all(sample.text.startswith("Return a list of") for sample in found)
    assert [sample.bpb for sample in found] == run.curve("val/bpb")[1]


def test_all_model_figures_of_a_run(frozen: Path) -> None:
    figures = {spec.name: spec.build() for spec in model_figures(read_run(frozen), ModelOptions())}
    assert len(figures) == 11
    for name, figure in figures.items():
        assert figure.name == name
        assert figure.caption.endswith(".")
        assert "not the run's own" not in figure.caption
        if figure.draw is not None:
            figure.draw()
    assert "predictions" in figures["loss_by_position"].table.columns  # type: ignore[union-attr]


def test_note_if_the_corpus_is_gone_or_changed(frozen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nanochat.analysis.model import held_out_text

    loaded = LoadedModel(read_run(frozen), ModelOptions())
    assert loaded.text.note == ""
    monkeypatch.setattr(held_out_text, "find_held_out", lambda *_: None)
    fallback = held_out_text.held_out_text(loaded.checkpoint, loaded.model.tokenizer, 64)
    assert fallback.note == ""  # tokenized again from the corpus, which still exists
    elsewhere = {**loaded.checkpoint["datamodule_hyper_parameters"], "corpus": str(tmp_path / "gone")}
    monkeypatch.setattr(held_out_text, "EMBEDDED", loaded.checkpoint["datamodule_hyper_parameters"]["corpus"])
    for corpus, reason in ((elsewhere["corpus"], "gone"), ("climbmix", "analyze downloads nothing")):
        changed = {**loaded.checkpoint, "datamodule_hyper_parameters": {**elsewhere, "corpus": corpus}}
        text = held_out_text.held_out_text(changed, loaded.model.tokenizer, 64)
        assert text.note.startswith("This is not the run's own held-out text: ")
        assert reason in text.note
    other = {**loaded.checkpoint, "TextDataModule": {**loaded.checkpoint["TextDataModule"], "corpus": "0" * 16}}
    assert "has changed since" in held_out_text.held_out_text(other, loaded.model.tokenizer, 64).note


def test_samples_are_wrapped_and_escaped() -> None:
    assert "&lt;b&gt;" in training_samples.as_html([training_samples.Sample(3, "a\n<b>", None)])
    assert training_samples.wrapped("abcd\n\nef\ngh", 3, 3) == ["abc", "d", "..."]
    assert training_samples.wrapped("\n", 3, 3) == ["(empty)"]
