"""Compiled models: the same losses, and runs that go on where there is nothing to compile with."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from nanochat.training import compiling
from tests.cli.tools import command, metrics, newest, tiny_options

needs_compiler = pytest.mark.skipif(not compiling.can_compile("cpu"), reason="no C++ compiler")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_a_model_is_compiled_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert not compiling.should_compile("cpu", None)
    assert not compiling.should_compile("cpu", 2)
    assert compiling.should_compile("cpu", 3)
    assert compiling.should_compile("cuda", None)
    assert not compiling.should_compile("mps", 60)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not compiling.should_compile("cpu", 60)


@pytest.mark.slow
@needs_compiler
def test_compiled_or_not_the_losses_are_the_same(corpus_folder: Path, tmp_path: Path) -> None:
    options = [*tiny_options(corpus_folder, tmp_path), "--model.depth=2", "--data.batch_size=4"]
    plain = command("fit", *options)
    assert (plain.returncode, plain.stderr) == (0, "")
    losses = metrics(newest(tmp_path), "train/loss")
    compiled = command("fit", *options, "--model.compile=true", NANOCHAT_CACHE=str(tmp_path / "cache"))
    assert (compiled.returncode, compiled.stderr) == (0, "")
    assert "Compiling the model" in compiled.stdout
    assert any((tmp_path / "cache" / "compiled").iterdir())  # kept for later runs
    assert newest(tmp_path).name == "version_1"
    for (_, a), (_, b) in zip(losses, metrics(newest(tmp_path), "train/loss"), strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    onward = command("fit", *options, "--ckpt_path=last", "--trainer.max_steps=6")
    assert (onward.returncode, onward.stderr) == (0, "")
    assert "compiled model" not in onward.stdout  # it goes on compiled, and so has nothing to say about it


@pytest.mark.slow
@needs_compiler
def test_a_compiler_that_fails_is_done_without(corpus_folder: Path, tmp_path: Path) -> None:
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(0o755)
    cache = {"NANOCHAT_CACHE": str(tmp_path / "cache"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled")}
    options = tiny_options(corpus_folder, tmp_path)
    result = command("fit", *options, "--model.compile=true", CXX=str(compiler), PATH=os.environ["PATH"], **cache)
    assert (result.returncode, result.stderr) == (0, "")
    assert "could not be compiled and runs uncompiled" in result.stdout
    assert len(metrics(newest(tmp_path), "train/loss")) == 4
