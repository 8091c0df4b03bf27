"""A conversation that goes on: what is remembered, taken back, saved; and the commands that do it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nanochat.inference.sampling import Sampling
from nanochat.serving.commands import COMMANDS, run_command
from nanochat.serving.session import Session, message_text, read_conversation
from tests.serving.checkpoints import attentive_model


def new_session(is_chat: bool = True, **options: object) -> Session:
    options = {"settings": Sampling(1.0), "max_tokens": 8, "seed": 1, **options}
    return Session(attentive_model(is_chat), **options)  # type: ignore[arg-type]


def ask(session: Session, question: str) -> str:
    return "".join(text for kind, text in session.ask(question) if kind == "text")


def test_each_answer_follows_on_what_was_said() -> None:
    session = new_session()
    first, second = ask(session, "hello"), ask(session, "again")
    assert [m["role"] for m in session.messages] == ["user", "assistant"] * 2
    assert [message_text(m) for m in session.messages] == ["hello", first, "again", second]
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": first}]
    messages += [{"role": "user", "content": "again"}]
    assert second == session.model.chat(messages, temperature=1.0, max_tokens=8, seed=2)
    assert second != session.model.chat("again", temperature=1.0, max_tokens=8, seed=2)


def test_the_same_seed_gives_the_same_conversation_and_retry_another_answer() -> None:
    session = new_session()
    first = ask(session, "hello")
    assert first == ask(new_session(), "hello")
    reply = run_command(session, "/retry")
    assert (reply.ask, session.messages) == ("hello", [])
    assert ask(session, reply.ask or "") != first
    assert len(session.messages) == 2


def test_the_system_message_is_heard() -> None:
    assert ask(new_session(system="be brief"), "hello") != ask(new_session(), "hello")


def test_what_was_said_until_it_was_stopped_is_kept() -> None:
    session = new_session(max_tokens=None)
    heard: list[str] = []
    for _, text in session.ask("hello", stopped=lambda: len(heard) >= 3):
        heard.append(text)
    assert [message_text(m) for m in session.messages] == ["hello", "".join(heard)]
    assert session.turns[-1].finished == "cancelled"
    assert not session.model.engine.active


def test_a_question_that_was_stopped_before_its_answer_began_is_forgotten() -> None:
    session = new_session()
    assert list(session.ask("hello", stopped=lambda: True)) == []
    assert session.messages == []


def test_a_listener_that_goes_frees_the_place() -> None:
    session = new_session(max_tokens=None)
    pieces = session.ask("hello")
    next(pieces)
    pieces.close()
    assert not session.model.engine.active
    assert len(session.messages) == 2


def test_the_oldest_turns_are_dropped_when_there_is_no_room() -> None:
    session = new_session(system="be brief")
    for _ in range(12):
        ask(session, "a question of thirty letters..")
    assert session.dropped >= 2
    assert session.dropped % 2 == 0
    assert len(session.messages) == 24  # the user can still see and save them
    assert f"without the oldest {session.dropped} messages" in run_command(session, "/stats").text


def test_a_question_without_room_for_an_answer_leaves_all_as_it_was() -> None:
    session = new_session()
    with pytest.raises(ValueError, match="too long"):
        session.ask("x" * 300)
    assert session.messages == []


def test_a_base_model_goes_on_with_each_text_alone() -> None:
    session = new_session(is_chat=False)
    ask(session, "hello")
    assert ask(session, "again") == session.model.generate("again", temperature=1.0, max_tokens=8, seed=2)
    with pytest.raises(ValueError, match="takes no system message"):
        run_command(session, "/system be brief")


def test_a_call_of_the_calculator_is_remembered_as_one() -> None:
    session = new_session()
    model = session.model
    special = model.tokenizer.special_tokens
    generation = model.start("x", max_tokens=64)
    for token in [special["<|python_start|>"], *b"2*3", special["<|python_end|>"], *b"It is 6."]:
        generation.add(token)
    generation.finish("stop")
    pieces = session._answer(generation, {"role": "user", "content": "2*3?"}, lambda: False)
    assert list(pieces) == [("python", "2*3"), ("python_output", "6"), ("text", "It is 6.")]
    assert session.messages[-1]["content"] == [
        {"type": "python", "text": "2*3"},
        {"type": "python_output", "text": "6"},
        {"type": "text", "text": "It is 6."},
    ]
    assert message_text(session.messages[-1]) == "It is 6."


# ---------------------------------------------------------------------------------------------------- the commands


def test_help_names_every_command() -> None:
    text = run_command(new_session(), "/help").text
    assert all(f"\n/{name}" in f"\n{text}" for name in COMMANDS)
    assert max(map(len, text.splitlines())) <= 80


def test_new_forgets_all_but_the_system_message() -> None:
    session = new_session(system="be brief")
    ask(session, "hello")
    run_command(session, "/new")
    assert (session.messages, session.system) == ([], "be brief")


def test_undo_takes_back_a_question_and_its_answer() -> None:
    session = new_session()
    ask(session, "first")
    ask(session, "second")
    assert "second" in run_command(session, "/undo").text
    assert [message_text(m) for m in session.messages][::2] == ["first"]
    run_command(session, "/undo")
    for command in ("/undo", "/retry"):
        with pytest.raises(ValueError, match="there is nothing to"):
            run_command(session, command)


def test_a_saved_conversation_is_loaded_again(tmp_path: Path) -> None:
    path = tmp_path / "a chat.json"
    session = new_session(system="be brief")
    ask(session, "h\u00e9llo")
    run_command(session, f"/save {path}")
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert saved == {"messages": [{"role": "system", "content": "be brief"}, *session.messages]}
    other = new_session()
    assert "2 messages" in run_command(other, f"/load {path}").text
    assert (other.messages, other.system) == (session.messages, "be brief")
    run_command(other, f"/save {path}")  # over itself
    assert read_conversation(path) == saved["messages"]


def test_a_question_out_of_a_file_can_be_asked(tmp_path: Path) -> None:
    path = tmp_path / "question.json"
    path.write_text('{"messages": [{"role": "user", "content": "hello"}]}')
    session = new_session()
    assert "/retry asks for one" in run_command(session, f"/load {path}").text
    assert run_command(session, "/retry").ask == "hello"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no conversation"),
        ("[]", "it has no"),
        ('{"messages": []}', "there are no messages"),
        ('{"messages": [{"role": "cook", "content": "x"}]}', "message 1 has the role 'cook'"),
        ('{"messages": ' + "[" * 100_000, "is no conversation"),
    ],
)
def test_what_is_no_conversation_is_neither_loaded_nor_overwritten(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    session = new_session()
    ask(session, "hello")
    before = list(session.messages)
    with pytest.raises(ValueError, match=message):
        run_command(session, f"/load {path}")
    with pytest.raises(ValueError, match="exists and is no conversation: give another name"):
        run_command(session, f"/save {path}")
    assert (session.messages, path.read_text()) == (before, content)


def test_files_that_cannot_be_are_said_in_a_line(tmp_path: Path) -> None:
    session = new_session()
    with pytest.raises(ValueError, match="nothing to save yet"):
        run_command(session, f"/save {tmp_path / 'x.json'}")
    ask(session, "hello")
    (tmp_path / "file").touch()
    for line, message in (
        ("/save", "/save needs the name of a file"),
        ("/load", "/load needs the name of a file"),
        (f"/load {tmp_path / 'none.json'}", "cannot read .*none.json: No such file"),
        (f"/save {tmp_path / 'file' / 'x.json'}", "cannot write|exists"),
        ("/save ~nobody-has-this-name/x.json", "there is no user of the name in ~nobody-has-this-name/x.json"),
    ):
        with pytest.raises(ValueError, match=message):
            run_command(session, line)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files here")
@pytest.mark.timeout(200)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    session = new_session()
    ask(session, "hello")
    os.mkfifo(tmp_path / "pipe")
    for command in ("load", "save"):
        with pytest.raises(ValueError, match="is no conversation"):
            run_command(session, f"/{command} {tmp_path / 'pipe'}")


def test_the_temperature_and_the_system_message_can_be_set() -> None:
    session = new_session()
    assert run_command(session, "/temperature 0.25").text == "The temperature is 0.25."
    assert (session.settings.temperature, session.settings.top_k) == (0.25, 50)
    for wrong in ("hot", "-1", "nan"):
        with pytest.raises(ValueError, match="temperature"):
            run_command(session, f"/temperature {wrong}")
    assert run_command(session, "/temperature").text == "The temperature is 0.25."
    run_command(session, "/system be brief")
    assert run_command(session, "/system").text == "be brief"
    run_command(session, "/system off")
    assert session.system == ""


def test_stats_say_how_fast_it_was() -> None:
    session = new_session()
    ask(session, "hello")
    assert "8 tokens at" in run_command(session, "/stats").text
    assert "tokens/s" in run_command(session, "/stats").text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/hlep", "there is no command /hlep, did you mean /help\\?"),
        ("/s", "did you mean /save or /system or /stats\\?"),
        ("/usr/bin", "/help lists them; a question may begin with a space"),
        ("/", "there is no command /"),
        ("/new chat", "/new takes no argument"),
    ],
)
def test_an_unknown_command_is_said_with_the_nearest(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_command(new_session(), line)


def test_quit_has_short_names() -> None:
    assert all(run_command(new_session(), line).quit for line in ("/quit", "/exit", "/q", "/QUIT"))
