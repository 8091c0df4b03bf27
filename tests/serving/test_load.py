"""nanochat.load: which checkpoint it finds, and what the loaded model generates."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import nanochat
from nanochat.serving.find_model import find_model, is_chat, resolve_checkpoint
from tests.serving.checkpoints import attentive_model, run_folder, write_checkpoint, write_run

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny with two fine-tuned runs and a newer base run; small with one checkpoint."""
    root = tmp_path_factory.mktemp("runs")
    write_run(root, "tiny", 0, time=1000)
    write_run(root, "tiny-chat", 0, is_chat=True, time=2000)
    write_run(root, "tiny-chat", 1, is_chat=True, time=3000)
    write_run(root, "tiny", 1, time=4000)
    write_run(root, "small", 0, time=5000)
    run_folder(root, "small", 1).mkdir()  # a run without a checkpoint
    return root


def found(root: Path, name_or_path: str | Path | None = None) -> tuple[str, str]:
    path = find_model(name_or_path, root)
    return path.parts[-4], path.parts[-3]


def test_newest_chat_model_precedes_newer_base_model(runs: Path) -> None:
    assert found(runs) == ("tiny-chat", "version_1")


def test_name_finds_chat_model_else_newest_base_model(runs: Path) -> None:
    assert found(runs, "tiny") == ("tiny-chat", "version_1")
    assert found(runs, "tiny-chat") == ("tiny-chat", "version_1")
    assert found(runs, "small") == ("small", "version_0")


def test_file_or_folder(runs: Path) -> None:
    tiny = run_folder(runs, "tiny")
    for path in (tiny, tiny / "checkpoints", tiny / "checkpoints" / "last.ckpt", str(tiny)):
        assert found(runs, path) == ("tiny", "version_0")
    assert found(runs, tiny.parent) == ("tiny", "version_1")  # not the fine-tuned one


def test_newest_base_model_without_chat_model(tmp_path: Path) -> None:
    write_run(tmp_path, "a", 0, time=2000)
    write_run(tmp_path, "b", 0, time=1000)
    assert found(tmp_path) == ("a", "version_0")


def test_previous_checkpoint_replaces_missing_last(tmp_path: Path) -> None:
    path = write_run(tmp_path, "a")
    path.rename(path.with_stem("previous"))
    assert find_model("a", tmp_path).stem == "previous"


def test_ckpt_path_last_and_best(runs: Path) -> None:
    assert (
        resolve_checkpoint("last", "tiny", str(runs))
        == resolve_checkpoint(None, "tiny", str(runs))
        == find_model("tiny", runs)
    )
    with pytest.raises(ValueError, match="there is no .*best.ckpt: --ckpt_path=last"):
        resolve_checkpoint("best", "tiny", str(runs))
    path = find_model("tiny", runs)
    best = path.with_stem("best")
    best.write_bytes(path.read_bytes())
    assert resolve_checkpoint("best", "tiny", str(runs)) == best
    best.unlink()
    with pytest.raises(ValueError, match="both select a model: give one of them"):
        resolve_checkpoint(str(path), "tiny", str(runs))


def test_finding_the_newest_loads_no_checkpoint(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inspected: list[Path] = []
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("a checkpoint is loaded"))
    monkeypatch.setattr("nanochat.serving.find_model.is_chat", lambda path: inspected.append(path) or is_chat(path))
    found(runs)
    assert [path.parts[-4:-2] for path in inspected] == [
        ("small", "version_0"),
        ("tiny", "version_1"),
        ("tiny-chat", "version_1"),
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, "there is no model below .*: train one with `python cli.py fit --config configs/tiny.yaml`"),
        ("tiny", "there is no run tiny below .*: train one with"),
        ("some/where.ckpt", "there is no checkpoint some/where.ckpt"),
    ],
)
def test_missing_model_error_names_the_command(name: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as error:
        nanochat.load(name, tmp_path)
    assert "\n" not in str(error.value)


def test_unknown_name_error_lists_the_runs(runs: Path) -> None:
    with pytest.raises(ValueError, match="there is no run tony below .*: the runs are small, tiny, tiny-chat$"):
        nanochat.load("tony", runs)


def test_empty_folder_and_damaged_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint in the folder"):
        nanochat.load(tmp_path)
    path = write_run(tmp_path, "a")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="not a whole checkpoint"):
        nanochat.load(tmp_path / "lightning_logs" / "a")


@pytest.fixture(scope="module")
def chat_model(runs: Path) -> nanochat.Model:
    return nanochat.load("tiny", runs)


def test_loaded_model_equals_saved_model(chat_model: nanochat.Model) -> None:
    ids = torch.randint(265, (1, 200), generator=torch.Generator().manual_seed(0))
    assert torch.equal(chat_model.gpt(ids), attentive_model().gpt(ids))
    assert (chat_model.name, chat_model.is_chat, chat_model.context) == ("tiny-chat", True, 256)
    assert repr(chat_model).startswith("<tiny-chat: a chat model of ")
    assert not any(p.requires_grad for p in chat_model.gpt.parameters())


def test_overwriting_the_file_does_not_change_a_loaded_model(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    write_checkpoint(path)
    model = nanochat.load(path)
    before = model.chat("hello", temperature=0, max_tokens=20)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert model.chat("hello", temperature=0, max_tokens=20) == before
    assert model.name == "model"


def test_temperature_zero_is_argmax(runs: Path) -> None:
    model = nanochat.load("small", runs)
    ids = [model.tokenizer.bos, *model.tokenizer.encode("A model")]
    for _ in range(20):
        ids.append(int(model.gpt(torch.tensor([ids]))[0, -1].argmax()))
    assert model.generate("A model", temperature=0, max_tokens=20) == model.tokenizer.decode(ids[8:])


def test_question_messages_and_stream_agree(chat_model: nanochat.Model) -> None:
    options = dict(seed=3, max_tokens=30, temperature=1.0)
    answer = chat_model.chat("hello", **options)
    assert answer
    assert chat_model.chat(HELLO, **options) == answer
    chunks = list(chat_model.stream("hello", **options))
    assert "".join(chunks) == answer
    assert len(chunks) > 10
    assert chat_model.chat("hello", seed=4, max_tokens=30, temperature=1.0) != answer
    assert chat_model.chat([{"role": "system", "content": "be brief"}, *HELLO], **options) != answer


def test_sampling_options(chat_model: nanochat.Model) -> None:
    greedy = chat_model.chat("hello", temperature=0, max_tokens=20)
    assert chat_model.chat("hello", temperature=5.0, top_k=1, max_tokens=20) == greedy
    assert chat_model.chat("hello", temperature=5.0, top_k=None, top_p=1e-9, max_tokens=20) == greedy
    assert chat_model.chat("hello", temperature=5.0, top_k=None, min_p=1.0, max_tokens=20) == greedy
    assert chat_model.chat("hello", temperature=0, repetition_penalty=9.0, max_tokens=20) != greedy
    assert chat_model.chat("hello", temperature=0, max_tokens=20, stop=[greedy[5]]) == greedy[:5].split(greedy[5])[0]
    with pytest.raises(ValueError, match="temperature must be 0 or more"):
        chat_model.chat("hello", temperature=-1)


def test_closing_the_stream_cancels(chat_model: nanochat.Model) -> None:
    chunks = chat_model.stream("hello", max_tokens=100)
    next(chunks)
    assert len(chat_model.engine.active) == 1
    chunks.close()  # type: ignore[attr-defined]
    assert not chat_model.engine.active


def test_long_conversation_drops_oldest_turns_with_a_warning(chat_model: nanochat.Model) -> None:
    turns = [{"role": role, "content": role * 12} for _ in range(6) for role in ("user", "assistant")]
    with pytest.warns(UserWarning, match="the oldest [0-9]+ messages are left out"):
        assert chat_model.chat([*turns, *HELLO], temperature=0, max_tokens=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chat_model.chat(HELLO, max_tokens=5)
    with pytest.raises(ValueError, match="too long"):
        chat_model.chat("x" * 300)


def test_base_model_generates_but_does_not_chat(runs: Path) -> None:
    model = nanochat.load("small", runs)
    assert model.generate("A model", seed=1, max_tokens=5) == "".join(model.stream("A model", seed=1, max_tokens=5))
    for method in (model.chat, model.stream):
        with pytest.raises(ValueError, match="is a base model.* Use generate.* configs/chat.yaml"):
            method(HELLO)


def test_import_nanochat_is_fast() -> None:
    code = "import sys, nanochat; assert 'torch' not in sys.modules; print(nanochat.load, 'lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("<function load")
    assert done.stdout.endswith("False\n")  # it takes two seconds, and only training needs it
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        nanochat.lode  # noqa: B018
    assert {"load", "Model"} <= set(dir(nanochat))


def test_concurrent_first_uses_create_one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanochat.serving.model.Engine", lambda *_: (time.sleep(0.1), object())[1])
    model = attentive_model()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: model.engine, range(2))
    assert first is second
