"""Held-out text for the figures of a finished run: its own, if it is still on this machine. Nothing is downloaded."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nanochat.data.corpus.corpora import EMBEDDED
from nanochat.data.corpus.hub import parse_address
from nanochat.data.tokens.held_out_rows import HeldOut, HeldOutRows
from nanochat.data.tokens.prepare import CorpusOptions, find_held_out, prepare
from nanochat.data.tokens.token_files import TokenFile
from nanochat.tokenizer import Tokenizer
from nanochat.training.checkpoint.loading import data_state


@dataclass(frozen=True)
class HeldOutText:
    """Held-out rows, with their description.

    Attributes:
        rows: documents or conversations that the model was not trained on, one or more rows each.
        description: what they are, for captions: "held-out documents of embedded".
        note: why they are not the run's own held-out text; "" if they are.
    """

    rows: HeldOut
    description: str
    note: str = ""


def held_out_text(checkpoint: Mapping[str, Any], tokenizer: Tokenizer, length: int) -> HeldOutText:
    """The held-out text of the run's corpus, or, if that is gone, of the documentation on this machine.

    Args:
        checkpoint: content of the checkpoint, from :func:`nanochat.training.checkpoint.loading.load_checkpoint`.
        tokenizer: the run's tokenizer.
        length: maximal number of predictions in a row: the model's context.

    Raises:
        ValueError: if there is no text on this machine.
    """
    settings = dict(checkpoint.get("datamodule_hyper_parameters") or {})
    fingerprint = data_state(checkpoint).get("corpus")
    if "tasks" in settings:
        return _conversations(settings, fingerprint, tokenizer)
    if "corpus" in settings:
        file, reason = _documents(settings, fingerprint, tokenizer)
        if file is not None:
            return HeldOutText(HeldOutRows(file, length), f"held-out documents of {settings['corpus']}")
    else:
        reason = "the checkpoint does not name its corpus"
    file = prepare(CorpusOptions(EMBEDDED), tokenizer.vocab_size, tokenizer, train=False).val
    description = "documents of the documentation on this machine"
    return HeldOutText(HeldOutRows(file, length), description, f"This is not the run's own held-out text: {reason}.")


def _documents(settings: Mapping[str, Any], fingerprint: Any, tokenizer: Tokenizer) -> tuple[TokenFile | None, str]:
    """The held-out documents that the run was scored on; or None, and the reason why they are not available."""
    corpus = str(settings["corpus"])
    cached = find_held_out(str(fingerprint), tokenizer) if fingerprint else None
    if cached is not None:
        return cached, ""
    val_corpus = settings.get("val_corpus")
    if any(parse_address(source) is not None for source in (corpus, val_corpus) if source):
        return None, f"the tokens of {corpus} are no longer in the cache, and analyze downloads nothing"
    sources = CorpusOptions(corpus, val_corpus, settings.get("column", "text"))
    try:
        prepared = prepare(sources, tokenizer.vocab_size, tokenizer, train=False)
    except ValueError as error:
        return None, str(error)
    if prepared.fingerprint != fingerprint:
        return None, f"{corpus} has changed since the run was trained"
    return prepared.val, ""


def _conversations(settings: Mapping[str, Any], fingerprint: Any, tokenizer: Tokenizer) -> HeldOutText:
    """The held-out conversations of the run's tasks, without the tasks that would have to be downloaded."""
    from nanochat.data.chat_data import DEFAULT_TASKS, ChatDataModule  # imports Lightning, which takes seconds
    from nanochat.data.conversations.task_sources import HUB

    tasks = settings.get("tasks") or DEFAULT_TASKS
    tasks = dict.fromkeys(tasks, 1.0) if not isinstance(tasks, Mapping) else tasks
    local = {name: weight for name, weight in tasks.items() if name not in HUB}
    options = {n: v for n, v in settings.items() if n in inspect.signature(ChatDataModule).parameters}
    try:
        data = ChatDataModule(**{**options, "tasks": local or None})
        data.use_tokenizer(tokenizer)
        data.setup("validate")
        reason = "some tasks would have to be downloaded" if local != tasks else "the text of the tasks has changed"
    except ValueError as error:  # such as a user's file that no longer exists
        data = ChatDataModule(**{**options, "tasks": None})
        data.use_tokenizer(tokenizer)
        data.setup("validate")
        reason = str(error)
    description = f"held-out conversations about {', '.join(data.weights)}"
    note = "" if data.fingerprint == fingerprint else f"These are not exactly the run's own conversations: {reason}."
    return HeldOutText(data.held_out, description, note)
