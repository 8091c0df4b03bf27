"""Errors that a user can make: one line on stderr with what is wrong and what to do, and exit status 2."""

import json
from pathlib import Path

import pytest
import torch

from nanochat.cli import main
from nanochat.cli.errors import explain_process_error, is_lost_process
from tests.cli.tools import tiny_options, train


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("nanochat: error: ")
    assert len(lines[0]) < 400
    return lines[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model.dept=6"], "there is no option --model.dept, did you mean --model.depth?"),
        (["--data.batchsize=6"], "there is no option --data.batchsize, did you mean --data.batch_size?"),
        (["--model.depth=deep"], "model.depth"),
        (["--model.depth=0"], "the depth must be at least 1, not 0"),
        (["--model.width=200"], "a width of 200 does not divide into heads of 64: take 192 or 256"),
        (["--model.width=256", "--model.heads=5"], "a width of 256 does not divide into 5 heads"),
        (["--model.matrix_lr=-1"], "--model.matrix_lr must be at least 0"),
        (["--model.warmdown=7"], "--model.warmdown must be from 0 to 1"),
        (["--data.vocab_size=100"], "a vocabulary of 100 is too small: at least 265"),
        (["--trainer.max_steps=0"], "--trainer.max_steps must be at least 1, not 0"),
        (["--data.batch_size=0"], "--data.batch_size must be at least 1, not 0"),
        (["--data.context=0"], "context must be at least"),
        (["--data.row_length=0"], "--data.row_length must be at least 1, not 0"),
        (["--data.num_workers=-1"], "--data.num_workers must be at least 0"),
        (["--data.max_shards=0"], "--data.max_shards must be at least 1, not 0"),
        (["--data.corpus=nowhere/at/all"], "there is no file or folder nowhere/at/all"),
        (["--data.tokens_per_step=100"], "a step of 100 tokens does not divide"),
        (["--name=a/b"], "--name=a/b is not a folder name"),
        (["--ckpt_path=last"], "there is no last checkpoint"),
        (["--ckpt_path=missing.ckpt"], "there is no checkpoint missing.ckpt"),
        (["--config=missing.yaml"], "missing.yaml"),
        (["--trainer.max_stepz=3"], "did you mean --trainer.max_steps?"),
        (["--trainer.precision=9-bit"], "precision"),
    ],
)
def test_bad_option(options: list[str], said: str, corpus_folder: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    message = error_of(["fit", *tiny_options(corpus_folder, tmp_path), *options], capsys)
    assert said in message
    assert not (tmp_path / "lightning_logs").exists()  # no run was started


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("accelerator", ["cuda", "gpu"])
def test_missing_gpu(accelerator: str, corpus_folder: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    options = [*tiny_options(corpus_folder, tmp_path), f"--trainer.accelerator={accelerator}"]
    assert "there is no NVIDIA GPU" in error_of(["fit", *options], capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fitt"], "there is no command fitt, did you mean fit?"),
        (["juggle"], "there is no command juggle (commands: fit, validate"),
        (["--config", "configs/tiny.yaml"], "the command comes first"),
        (["validate", "--ckpt_path="], "validate needs a checkpoint"),
    ],
)
def test_bad_command(arguments: list[str], said: str, capsys) -> None:  # type: ignore[no-untyped-def]
    assert said in error_of(arguments, capsys)


def corpus(folder: Path, **files: bytes) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "holds no text"),
        ({"a_txt": b""}, "is empty"),
        ({"a_txt": b" \n"}, "is empty"),
        ({"a_txt": b"one document"}, "--data.val_corpus"),
        ({"a_txt": b"one", "b_txt": b"two"}, "too small: its held-out part has"),
        ({"a_txt": b"\xff\xfe\x00"}, "a.txt, byte 0: not UTF-8"),
        ({"a_jsonl": b'{"text": 3}'}, "a.jsonl, line 1"),
        ({"a_parquet": b"PAR1"}, "a.parquet is damaged or is not a parquet file"),
    ],
)
def test_bad_corpus(files: dict[str, bytes], said: str, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    folder = corpus(tmp_path / "corpus", **files)
    assert said in error_of(["fit", *tiny_options(folder, tmp_path)], capsys)


def test_mismatched_checkpoint(corpus_folder: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    options = tiny_options(corpus_folder, tmp_path)
    run = train(options, tmp_path, "--trainer.max_steps=1")
    whole = run / "checkpoints" / "last.ckpt"

    message = error_of(["fit", *options, "--ckpt_path=last", "--model.depth=3", "--model.width=64"], capsys)
    assert "depth 1 instead of 3" in message
    assert f"--config {run / 'config.yaml'}" in message
    message = error_of(["validate", *options, f"--ckpt_path={whole}", "--data.vocab_size=310"], capsys)
    assert "vocab_size 300 instead of 310" in message

    content = whole.read_bytes()
    for name, part in {"half": content[: len(content) // 2], "empty": b"", "text": b"no checkpoint at all"}.items():
        (tmp_path / f"{name}.ckpt").write_bytes(part)
        message = error_of(["validate", *options, f"--ckpt_path={tmp_path / name}.ckpt"], capsys)
        assert f"{name}.ckpt is not a whole checkpoint" in message

    torch.save({"weights": 1}, tmp_path / "other.ckpt")
    message = error_of(["fit", *options, f"--ckpt_path={tmp_path / 'other.ckpt'}"], capsys)
    assert "is not a checkpoint of this project" in message


class Unsafe:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("this must never be printed",)


def test_pickle_is_not_executed(corpus_folder: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    torch.save({"state_dict": {}, "hyper_parameters": Unsafe()}, tmp_path / "evil.ckpt")
    options = tiny_options(corpus_folder, tmp_path)
    message = error_of(["validate", *options, f"--ckpt_path={tmp_path / 'evil.ckpt'}"], capsys)
    assert "evil.ckpt is not a whole checkpoint" in message
    assert "never be printed" not in capsys.readouterr().out


def test_too_little_memory(corpus_folder: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("nanochat.training.budget.memory_check.available_memory", lambda device: -300_000_000)
    message = error_of(["fit", *tiny_options(corpus_folder, tmp_path), "--model.depth=8"], capsys)
    assert "needs about" in message
    assert "lower --model.depth or --data.row_length; a smaller batch size is not enough" in message


def test_full_disk_keeps_the_old_checkpoint(corpus_folder: Path, tmp_path: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    options = tiny_options(corpus_folder, tmp_path)
    run = train(options, tmp_path, "--trainer.max_steps=1")
    before = (run / "checkpoints" / "last.ckpt").read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nanochat.training.checkpoint.safe_io.os.fsync", full)
    message = error_of(["fit", *options, "--ckpt_path=last", "--trainer.max_steps=3"], capsys)
    assert "cannot write the checkpoint" in message
    assert "No space left on device" in message
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == before
    assert not list(run.rglob("*.part"))


def test_bad_configuration_file(corpus_folder: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "mine.yaml"
    path.write_text("model:\n  dept: 3\n")
    assert "there is no setting model.dept, did you mean --model.depth?" in error_of(
        ["fit", f"--config={path}", *tiny_options(corpus_folder, tmp_path)], capsys
    )
    path.write_text("model: [unclosed")
    assert "mine.yaml" in error_of(["fit", f"--config={path}", *tiny_options(corpus_folder, tmp_path)], capsys)


def test_summary_of_a_one_step_run(corpus_folder: Path, tmp_path: Path) -> None:
    run = train(tiny_options(corpus_folder, tmp_path), tmp_path, "--trainer.max_steps=1")
    assert json.loads((run / "summary.json").read_text())["steps"] == 1


def test_lost_process() -> None:
    assert is_lost_process(RuntimeError("[.../gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer."))
    assert is_lost_process(torch.distributed.DistBackendError("NCCL error: remote process exited"))
    assert not is_lost_process(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert explain_process_error(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


def test_unreachable_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "node1")
    lost = explain_process_error(
        torch.distributed.DistNetworkError("Failed to recv, got 0 bytes. Connection was closed")
    )
    never = explain_process_error(
        torch.distributed.DistNetworkError("The client socket has timed out while trying to connect to (node1, 19001).")
    )
    assert lost is not None
    assert "--ckpt_path=last goes on" in lost
    assert never is not None
    assert "cannot be reached at node1" in never
