"""Comparison of several runs: groups of seeds, warnings, bands, CPU and GPU pairs, scaling laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nanochat.analysis.history import Curve, History
from nanochat.analysis.multi_run import device_speedup, results, scaling
from nanochat.analysis.multi_run.comparison_figures import warnings
from nanochat.analysis.multi_run.overlay import Band
from nanochat.analysis.multi_run.seed_groups import differing_settings, seed_groups
from nanochat.runs import read_run
from tests.analysis.run_folders import write_run


def history(folder: Path) -> History:
    return History(read_run(folder))


def test_seed_groups(tmp_path: Path) -> None:
    found = []
    for version, (depth, seed, bpb) in enumerate([(3, 1, 1.3), (2, 1, 1.5), (2, 2, 1.7), (3, 2, 1.1)]):
        settings = {"model__depth": depth, "seed_everything": seed, "data__seed": seed}
        found.append(history(write_run(tmp_path, version=version, summary={"val_bpb": bpb}, **settings)))
    assert differing_settings(found) == {"seed_everything": [1, 1, 2, 2], "model.depth": [3, 2, 2, 3]}
    shallow, deep = seed_groups(found)  # sorted by the only setting that differs
    assert (shallow.label, deep.label) == ("depth 2", "depth 3")
    assert sorted(shallow.scores) == [1.5, 1.7]
    assert deep.bpb is not None
    assert deep.bpb.value == pytest.approx(1.2)


def test_scores_connects_runs_with_the_same_seed(tmp_path: Path) -> None:
    def figure(runs: list[tuple[int, int, float]], texts: str = "aaaa") -> tuple[str, list[list[float]]]:
        found = []
        for (depth, seed, bpb), text in zip(runs, texts, strict=True):
            summary = {"val_bpb": bpb, "seed": seed, "corpus_fingerprint": text}
            folder = write_run(
                tmp_path, version=len(list(tmp_path.rglob("version_*"))), summary=summary, model__depth=depth
            )
            found.append(history(folder))
        scores = results.scores(seed_groups(found))
        assert scores.draw is not None
        lines = [list(line.get_xdata()) for line in scores.draw().axes[0].lines]
        return scores.caption, lines

    caption, lines = figure([(2, 1, 1.5), (3, 1, 1.3), (2, 2, 1.7), (3, 2, 1.6)])
    assert "connect runs with the same seed" in caption
    assert lines[:2] == [[1.5, 1.3], [1.7, 1.6]]
    caption, lines = figure([(4, 1, 1.5), (5, 1, 1.3)], "aa")  # a single seed: no lines
    assert "same seed" not in caption
    assert lines == [[1.5], [1.3]]
    caption, lines = figure(
        [(6, 1, 1.5), (7, 1, 1.3), (6, 2, 1.7), (7, 2, 1.6)], "abab"
    )  # no lines between different texts
    assert "same seed" not in caption


def test_groups_and_warnings_for_other_text_and_device(tmp_path: Path) -> None:
    found = [
        history(write_run(tmp_path, version=0)),
        history(write_run(tmp_path, version=1, summary={"corpus_fingerprint": "bbbb"})),
        history(write_run(tmp_path, version=2, summary={"device": "NVIDIA H100"})),
    ]
    assert len(seed_groups(found)) == 3
    text = " ".join(warnings(found))
    assert "different texts, so their scores are not comparable" in text
    assert "bbbb: run/version_1" in text
    assert "NVIDIA H100" in text


def test_no_warning_for_comparable_runs(tmp_path: Path) -> None:
    assert warnings([history(write_run(tmp_path, version=version)) for version in (0, 1)]) == []


def test_warning_for_unfinished_run(tmp_path: Path) -> None:
    found = [history(write_run(tmp_path)), history(write_run(tmp_path, version=1, summary={}))]
    assert any("Not finished" in warning and "run/version_1" in warning for warning in warnings(found))


def test_band_is_confidence_interval_or_range_of_two_seeds() -> None:
    x = np.arange(5.0)
    three = Band([Curve(x, x * 0 + value) for value in (1.0, 2.0, 3.0)])
    assert three.low is not None
    assert three.high is not None
    assert three.mean == pytest.approx(2.0)
    assert three.high - three.mean == pytest.approx(2.4843, abs=1e-3)  # as in test_scaling_law
    two = Band([Curve(x, x), Curve(x[1:], x[1:] + 1)])
    assert list(two.x) == [1, 2, 3, 4]  # where both curves have values
    assert two.low is not None
    assert list(two.low) == [1, 2, 3, 4]
    assert Band([Curve(x, x)]).low is None


def test_cpu_gpu_pairs_and_time_to_same_score(tmp_path: Path) -> None:
    val = {49: 1.8, 99: 1.4}
    cpu = history(write_run(tmp_path, version=0, curves={"val/bpb": val}))
    gpu = history(
        write_run(
            tmp_path,
            version=1,
            summary={"device": "NVIDIA H100", "tokens_per_second": 2560.0},
            curves={"val/bpb": {9: 1.75, 19: 1.5}},
            trainer__accelerator="cuda",
            trainer__precision="bf16-mixed",
        )
    )
    other = history(write_run(tmp_path, version=2, summary={"device": "NVIDIA H100"}, model__depth=3))
    assert device_speedup.cpu_gpu_pairs([cpu, other]) == []  # a different model
    assert device_speedup.cpu_gpu_pairs([cpu, gpu, other]) == [(cpu, gpu)]
    table = device_speedup.speed_up([cpu, gpu]).table
    assert table is not None
    assert table.rows[1][3] == 10.0  # speed relative to the CPU
    # both reached 1.5: the CPU at its second validation, after 10 + 0.5 * 99 s, the GPU after 10 + 0.5 * 19 s
    assert [row[-2:] for row in table.rows] == [[1.5, 59.5], [1.5, 19.5]]


def test_scaling_against_parameters_and_compute(tmp_path: Path) -> None:
    found = []
    for version, width in enumerate((64, 128, 256, 512)):
        matmul = 12 * 2 * width**2 + 300 * width  # two layers and the head
        summary = {"val_bpb": 0.8 + 30 * matmul**-0.3, "flops_per_token": 6 * matmul, "tokens": 1000}
        found.append(history(write_run(tmp_path, version=version, summary=summary, model__width=width)))
        assert found[-1].matmul_parameters == matmul
    specs = scaling.scaling_figures(found)
    assert [spec.name for spec in specs] == ["scaling_parameters", "scaling_compute"]
    for spec in specs:
        figure = spec.build()
        assert figure.table is not None
        rows = {row[0]: row[1] for row in figure.table.rows}
        assert rows["exponent a"] == pytest.approx(0.3, abs=1e-3)
        assert rows["floor E (bits per byte)"] == pytest.approx(0.8, abs=1e-3)


def test_no_scaling_law_across_texts(tmp_path: Path) -> None:
    found = []
    for version, width in enumerate((64, 128, 256)):
        summary = {"val_bpb": 2 - 0.1 * version, "corpus_fingerprint": str(version)}
        found.append(history(write_run(tmp_path, version=version, summary=summary, model__width=width)))
    with pytest.raises(ValueError, match="scored on different texts"):
        scaling.scaling_figures(found)[0].build()
