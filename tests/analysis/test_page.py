"""Figures as files, in a page, and in TensorBoard."""

from __future__ import annotations

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure as MplFigure

from nanochat.analysis import style
from nanochat.analysis.analyze import AnalysisOptions, analyze_run, analyze_runs
from nanochat.analysis.build_figures import build_figures
from nanochat.analysis.figure import Figure, FigureSpec, ModelOptions, Table
from nanochat.analysis.figure_files import as_csv, as_markdown, save_figure
from nanochat.analysis.history import History
from nanochat.analysis.page import Page, write_page
from nanochat.analysis.single_run.run_figures import run_figures
from nanochat.analysis.smoothing import smooth
from nanochat.analysis.tensorboard import log_figures
from nanochat.analysis.units import unit_of
from nanochat.runs import read_run
from tests.analysis.run_folders import write_run

QUICK = AnalysisOptions(ModelOptions(), quick=True)


def draw() -> MplFigure:
    fig, axes = style.subplots()
    axes.plot([0, 1], [1, 0], color=style.color(0))
    return fig  # type: ignore[no-any-return]


def silent(text: str) -> None:
    """Discards a line."""


class Elements(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_figures_are_saved_in_both_themes(tmp_path: Path) -> None:
    saved = save_figure(Figure("one", "One", "Look.", draw=draw), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.dark.svg", "one.png", "one.svg"]
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    for theme, other in ((style.LIGHT, style.DARK), (style.DARK, style.LIGHT)):
        assert theme.background in saved.svg[theme.name]
        assert theme.colors[0] in saved.svg[theme.name]
        assert other.colors[0] not in saved.svg[theme.name]
    assert style.theme() is style.LIGHT  # restored


def test_csv_keeps_all_digits_and_markdown_is_escaped() -> None:
    table = Table(["name", "value (ms)"], [["a|b", 1 / 3], ["c", None]])
    assert list(csv.reader(as_csv(table).splitlines())) == [["name", "value (ms)"], ["a|b", str(1 / 3)], ["c", ""]]
    assert as_markdown(table).splitlines()[1:3] == ["| ---- | ---------: |", "| a\\|b |     0.3333 |"]


def test_model_shape_of_a_run(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))
    model = History(run).gpt
    assert model is not None
    assert model.num_parameters == 64 * 2 * 300 + 2 * 12 * 64**2  # embedding and head for 300 tokens, and two blocks


def test_page_is_self_contained_and_escapes_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    figures = [
        Figure("first", f"First {evil}", evil, draw=draw, table=Table([evil], [[evil]]), section="A"),
        Figure("second", "Second", "Read.", html="<p>whole</p>", section="B"),
    ]
    saved = [save_figure(figure, tmp_path / "analysis") for figure in figures]
    page = Page(title=evil, description=evil, warnings=[evil], missing=[("Third", evil)])
    text = write_page(page, saved, tmp_path).read_text()
    found = Elements(text)
    assert text.count("<script>") == 1  # the page's own
    assert "<p>whole</p>" in text
    for _, attributes in found.tags:
        for name in ("src", "href"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:image/svg+xml,", "analysis/")), target
    policy = next(
        a["content"] for tag, a in found.tags if tag == "meta" and "content" in a and "src" in str(a["content"])
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert re.search(r"script-src 'sha256-[\w+/]+='", policy)
    images = [attributes for tag, attributes in found.tags if tag == "img"]
    assert [image["class"] for image in images] == ["light", "dark"]
    assert {"#first", "#second"} <= {str(a.get("href")) for tag, a in found.tags if tag == "a"}
    for tag, attributes in found.tags:
        if tag == "a" and str(attributes["href"]).startswith("analysis/"):
            assert (tmp_path / str(attributes["href"])).is_file()


def test_failed_figure_does_not_stop_the_others(tmp_path: Path) -> None:
    def fail() -> Figure:
        raise RuntimeError("broken")

    def refuse() -> Figure:
        raise ValueError("nothing was logged")

    lines: list[str] = []
    specs = [
        FigureSpec("bad", "Bad", fail),
        FigureSpec("none", "None", refuse),
        FigureSpec("good", "Good", lambda: Figure("good", "Good", "Look.", draw=draw)),
    ]
    result = build_figures(specs, tmp_path, lines.append)
    assert [saved.figure.name for saved in result.saved] == ["good"]
    assert result.missing == [("Bad", "RuntimeError: broken"), ("None", "nothing was logged")]
    assert "not shown: nothing was logged" in lines[1]
    assert all(len(line) <= 80 for line in lines)


def test_repeated_analysis_replaces_tensorboard_events(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = read_run(write_run(tmp_path))
    (run.folder / "events.out.tfevents.1700000000.host.1.0").write_bytes(b"")  # the events of the run itself
    for _ in range(2):
        analyze_run(run, AnalysisOptions(ModelOptions(), only=["loss"], quick=True), silent)
    assert len(list((run.folder / "analysis").glob("events.*"))) == 1
    assert len(list(run.folder.glob("events.*"))) == 1
    events = EventAccumulator(str(run.folder / "analysis"), size_guidance={"images": 0})
    events.Reload()
    assert "analysis/loss" in events.Tags()["images"]
    assert [image.step for image in events.Images("analysis/loss")] == [100]


def test_log_figures_writes_one_event_file(tmp_path: Path) -> None:
    log_figures([save_figure(Figure("one", "One", "Look.", draw=draw), tmp_path)], tmp_path / "board", 3)
    assert len(list((tmp_path / "board").iterdir())) == 1


def test_curve_against_each_x_axis(tmp_path: Path) -> None:
    history = History(read_run(write_run(tmp_path, curves={"val/bpb": {4: 2.0, 9: 1.0}})))
    expected = {"step": [5, 10], "tokens": [640, 1280], "seconds": [12, 14.5], "flops": [640_000, 1_280_000]}
    for axis, x in expected.items():
        assert list(history.curve("val/bpb", axis).x) == x
        assert list(history.curve("val/bpb", axis).y) == [2.0, 1.0]
    assert len(history.curve("nothing").x) == 0


def test_smooth_preserves_constants_and_lines() -> None:
    x = np.arange(200.0)
    assert smooth(x, np.full(200, 3.0)) == pytest.approx(3.0)
    assert smooth(x, x)[20:-20] == pytest.approx(x[20:-20])
    noisy = np.where(x % 2, 1.0, -1.0)
    assert np.abs(smooth(x, noisy)[10:-10]).max() < 0.05


def test_units_of_axes() -> None:
    assert unit_of("tokens", 3.3e6) == (1e6, "tokens (millions)")
    assert unit_of("seconds", 315) == (60, "time (minutes)")
    assert unit_of("flops", 6.7e13) == (1e13, "compute (10¹³ FLOPs)")


@pytest.mark.parametrize(
    ("curves", "summary"),
    [
        (None, {}),  # still training
        ({}, {}),  # nothing is logged yet
        ({"reward": {n: n / 50 for n in range(50)}, "chat/gsm8k": {9: 0.1, 19: 0.2}, "tasks/a": {49: 0.5}}, None),
    ],
)
def test_page_of_a_run_in_any_state(
    tmp_path: Path, curves: dict[str, dict[int, float]] | None, summary: dict[str, object] | None
) -> None:
    folder = write_run(tmp_path, curves=curves, summary=summary)
    text = analyze_run(read_run(folder), QUICK, silent).read_text()
    assert 'id="parameters"' in text
    if summary == {}:
        assert "This run is not finished" in text
    if curves:
        assert 'id="other_curves"' in text
        assert 'id="other_chat"' in text
        assert "nothing" not in text or "Not shown" in text


def test_reinforcement_learning_shows_rewards_first(tmp_path: Path) -> None:
    rising = {step: step / 100 for step in range(60)}
    curves = {
        "train/loss": rising,
        "train/reward": rising,
        "train/pass_at_4": rising,
        "val/accuracy": {0: 0.1, 59: 0.4},
    }
    folder = write_run(tmp_path, "run-reinforce", curves=curves)
    names = [spec.name for spec in run_figures(History(read_run(folder)), ModelOptions(), quick=True)]
    assert names[:2] == ["other_train", "other_val"]
    assert "loss" not in names  # does not measure quality there
    text = analyze_run(read_run(folder), QUICK, silent).read_text()
    assert "answers and their rewards" in text
    assert "step_time" not in [
        spec.name for spec in run_figures(History(read_run(folder)), ModelOptions(), quick=False)
    ]


def test_comparison_lists_differences_and_warns(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path, version=n, model__depth=n + 2)) for n in range(2)]
    runs.append(read_run(write_run(tmp_path, "other", summary={"corpus_fingerprint": "bbbb"})))
    lines: list[str] = []
    page = analyze_runs(runs, AnalysisOptions(ModelOptions(), only=["runs", "scores"]), lines.append, tmp_path / "out")
    assert any("different texts" in line for line in lines)
    text = page.read_text()
    assert "different texts" in text
    with open(tmp_path / "out" / "analysis" / "runs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model.depth"] for row in rows] == ["2", "3", "2"]
    assert not any(name.startswith("data.") for name in rows[0])  # the same in all runs


# -------------------------------------------------------------------------------------------------- the colours

# Simulation of colour blindness in linear RGB (Machado, Oliveira and Fernandes 2009, severity 1).
BLIND = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def lab(color: str, matrix: list[list[float]] | None = None) -> np.ndarray:
    """CIELAB (D65) coordinates of a colour, optionally after the simulation of colour blindness."""
    from matplotlib.colors import to_rgb

    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    if matrix is not None:
        linear = np.clip(np.array(matrix) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ linear / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("theme", style.THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize("kind", [None, *BLIND])
def test_colours_are_distinct_for_colour_blind_readers(theme: style.Theme, kind: str | None) -> None:
    colors = [lab(color, BLIND[kind] if kind else None) for color in theme.colors[:5]]
    distances = [np.linalg.norm(a - b) for i, a in enumerate(colors) for b in colors[:i]]
    assert min(distances) > 11  # a just noticeable difference is 2.3
    background = lab(theme.background)[0]
    assert all(abs(color[0] - background) > 25 for color in (lab(c) for c in theme.colors[:5]))
