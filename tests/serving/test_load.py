"""nanochat.load: which model it finds, and what that says."""

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
from nanochat.serving import find_model as find_module
from nanochat.serving.find_model import find_model, resolve_checkpoint
from tests.serving.checkpoints import attentive_model, run_folder, write_checkpoint, write_run

ASKED = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny, of which a chat model was made before it was trained again; and small."""
    root = tmp_path_factory.mktemp("runs")
    write_run(root, "tiny", 0, time=1000)
    write_run(root, "tiny-chat", 0, is_chat=True, time=2000)
    write_run(root, "tiny-chat", 1, is_chat=True, time=3000)
    write_run(root, "tiny", 1, time=4000)
    write_run(root, "small", 0, time=5000)
    run_folder(root, "small", 1).mkdir()  # a run that has not come to a checkpoint
    return root


def found(root: Path, what: str | Path | None = None) -> tuple[str, str]:
    path = find_model(what, root)
    return path.parts[-4], path.parts[-3]


def test_the_newest_chat_model_is_taken_even_if_a_base_model_is_newer(runs: Path) -> None:
    assert found(runs) == ("tiny-chat", "version_1")


def test_a_name_means_its_chat_model_or_else_its_newest_base_model(runs: Path) -> None:
    assert found(runs, "tiny") == ("tiny-chat", "version_1")
    assert found(runs, "tiny-chat") == ("tiny-chat", "version_1")
    assert found(runs, "small") == ("small", "version_0")


def test_files_and_folders_mean_what_is_in_them(runs: Path) -> None:
    tiny = run_folder(runs, "tiny")
    for what in (tiny, tiny / "checkpoints", tiny / "checkpoints" / "last.ckpt", str(tiny)):
        assert found(runs, what) == ("tiny", "version_0")
    assert found(runs, tiny.parent) == ("tiny", "version_1")  # the newest of that name, and not what was made of it


def test_without_a_chat_model_the_newest_base_model_is_taken(tmp_path: Path) -> None:
    write_run(tmp_path, "a", 0, time=2000)
    write_run(tmp_path, "b", 0, time=1000)
    assert found(tmp_path) == ("a", "version_0")


def test_the_checkpoint_before_serves_where_the_last_is_missing(tmp_path: Path) -> None:
    path = write_run(tmp_path, "a")
    path.rename(path.with_stem("previous"))
    assert find_model("a", tmp_path).stem == "previous"


def test_last_and_best_are_words_of_the_command_line(runs: Path) -> None:
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
    with pytest.raises(ValueError, match="both say which model: give one of them"):
        resolve_checkpoint(str(path), "tiny", str(runs))


def test_no_checkpoint_is_read_to_find_the_newest(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[Path] = []
    is_chat = find_module.is_chat
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("a checkpoint is read"))
    monkeypatch.setattr(find_module, "is_chat", lambda path: looked_at.append(path) or is_chat(path))
    found(runs)
    assert [path.parts[-4:-2] for path in looked_at] == [
        ("small", "version_0"),
        ("tiny", "version_1"),
        ("tiny-chat", "version_1"),
    ]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (None, "there is no model below .*: train one with `python cli.py fit --config configs/tiny.yaml`"),
        ("tiny", "there is no run tiny below .*: train one with"),
        ("some/where.ckpt", "there is no checkpoint some/where.ckpt"),
    ],
)
def test_what_is_not_there_is_said_in_a_line_with_the_command_that_makes_it(
    what: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        nanochat.load(what, tmp_path)
    assert "\n" not in str(error.value)


def test_other_names_are_proposed(runs: Path) -> None:
    with pytest.raises(ValueError, match="there is no run tony below .*: there is small, tiny, tiny-chat$"):
        nanochat.load("tony", runs)


def test_an_empty_folder_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint in the folder"):
        nanochat.load(tmp_path)
    path = write_run(tmp_path, "a")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="not a whole checkpoint"):
        nanochat.load(tmp_path / "lightning_logs" / "a")


@pytest.fixture(scope="module")
def chat_model(runs: Path) -> nanochat.Model:
    return nanochat.load("tiny", runs)


def test_a_loaded_model_is_the_one_that_was_saved(chat_model: nanochat.Model) -> None:
    ids = torch.randint(265, (1, 200), generator=torch.Generator().manual_seed(0))
    assert torch.equal(chat_model.gpt(ids), attentive_model().gpt(ids))
    assert (chat_model.name, chat_model.is_chat, chat_model.context) == ("tiny-chat", True, 256)
    assert repr(chat_model).startswith("<tiny-chat: a chat model of ")
    assert not any(p.requires_grad for p in chat_model.gpt.parameters())


def test_the_file_may_be_written_anew_while_the_model_lives(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    write_checkpoint(path)
    model = nanochat.load(path)
    before = model.chat("hello", temperature=0, max_tokens=20)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert model.chat("hello", temperature=0, max_tokens=20) == before
    assert model.name == "model"


def test_text_is_what_the_model_finds_likeliest(runs: Path) -> None:
    model = nanochat.load("small", runs)
    ids = [model.tokenizer.bos, *model.tokenizer.encode("A model")]
    for _ in range(20):
        ids.append(int(model.gpt(torch.tensor([ids]))[0, -1].argmax()))
    assert model.generate("A model", temperature=0, max_tokens=20) == model.tokenizer.decode(ids[8:])


def test_a_question_a_conversation_and_a_stream_have_the_same_answer(chat_model: nanochat.Model) -> None:
    options = dict(seed=3, max_tokens=30, temperature=1.0)
    answer = chat_model.chat("hello", **options)
    assert answer
    assert chat_model.chat(ASKED, **options) == answer
    pieces = list(chat_model.stream("hello", **options))
    assert "".join(pieces) == answer
    assert len(pieces) > 10
    assert chat_model.chat("hello", seed=4, max_tokens=30, temperature=1.0) != answer
    assert chat_model.chat([{"role": "system", "content": "be brief"}, *ASKED], **options) != answer


def test_settings_reach_the_engine(chat_model: nanochat.Model) -> None:
    likeliest = chat_model.chat("hello", temperature=0, max_tokens=20)
    assert chat_model.chat("hello", temperature=5.0, top_k=1, max_tokens=20) == likeliest
    assert chat_model.chat("hello", temperature=5.0, top_k=None, top_p=1e-9, max_tokens=20) == likeliest
    assert chat_model.chat("hello", temperature=5.0, top_k=None, min_p=1.0, max_tokens=20) == likeliest
    assert chat_model.chat("hello", temperature=0, repetition_penalty=9.0, max_tokens=20) != likeliest
    assert (
        chat_model.chat("hello", temperature=0, max_tokens=20, stop=[likeliest[5]])
        == likeliest[:5].split(likeliest[5])[0]
    )
    with pytest.raises(ValueError, match="temperature must be 0 or more"):
        chat_model.chat("hello", temperature=-1)


def test_who_stops_listening_stops_the_model(chat_model: nanochat.Model) -> None:
    pieces = chat_model.stream("hello", max_tokens=100)
    next(pieces)
    assert len(chat_model.engine.active) == 1
    pieces.close()  # type: ignore[attr-defined]
    assert not chat_model.engine.active


def test_a_long_conversation_loses_its_oldest_turns_and_that_is_said(chat_model: nanochat.Model) -> None:
    turns = [{"role": role, "content": role * 12} for _ in range(6) for role in ("user", "assistant")]
    with pytest.warns(UserWarning, match="the oldest [0-9]+ messages are left out"):
        assert chat_model.chat([*turns, *ASKED], temperature=0, max_tokens=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chat_model.chat(ASKED, max_tokens=5)
    with pytest.raises(ValueError, match="too long"):
        chat_model.chat("x" * 300)


def test_a_base_model_goes_on_with_text_and_says_so_when_asked(runs: Path) -> None:
    model = nanochat.load("small", runs)
    assert model.generate("A model", seed=1, max_tokens=5) == "".join(model.stream("A model", seed=1, max_tokens=5))
    for ask in (model.chat, model.stream):
        with pytest.raises(ValueError, match="is a base model.* use generate.* configs/chat.yaml"):
            ask(ASKED)


def test_importing_nanochat_imports_nothing_slow() -> None:
    code = "import sys, nanochat; assert 'torch' not in sys.modules; print(nanochat.load, 'lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("<function load")
    assert done.stdout.endswith("False\n")  # two seconds that only training needs
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        nanochat.lode  # noqa: B018
    assert {"load", "Model"} <= set(dir(nanochat))


def test_threads_that_ask_first_share_one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanochat.serving.model.Engine", lambda *_: (time.sleep(0.1), object())[1])
    model = attentive_model()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: model.engine, range(2))
    assert first is second
