"""Held-out text to look at a finished run's model with: its own, if that is still at hand. Nothing is ever fetched."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nanochat.data.corpus.corpora import EMBEDDED
from nanochat.data.corpus.hub import parse_address
from nanochat.data.tokens.held_out_rows import HeldOut, HeldOutRows
from nanochat.data.tokens.prepare import CorpusOptions, find_held_out, prepare
from nanochat.data.tokens.token_files import TokenFile
from nanochat.tokenizer import Tokenizer
from nanochat.training.checkpoint_files import data_state

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldOutText:
    """Rows to look at a model with.

    Attributes:
        rows: documents or conversations that the model has not learned from, each alone.
        words: what they are, for the sentence below a figure: "held-out documents of embedded".
        remark: what a reader must know if they are not the run's own; "" if they are.
    """

    rows: HeldOut
    description: str
    note: str = ""


def held_out_text(checkpoint: Mapping[str, Any], tokenizer: Tokenizer, length: int) -> HeldOutText:
    """The held-out part of what a run has learned from; of the documentation on this machine where that is gone.

    Args:
        checkpoint: the run's, as :func:`nanochat.training.checkpoint_files.load_checkpoint` reads it.
        tokenizer: the run's.
        length: predictions in a row at most: the model's context.

    Raises:
        ValueError: if there is no text at all on this machine.
    """
    settings = dict(checkpoint.get("datamodule_hyper_parameters") or {})
    known = data_state(checkpoint).get("corpus")  # its fingerprint
    if "tasks" in settings:
        return _conversations(settings, known, tokenizer)
    if "corpus" in settings:
        file, why = _documents(settings, known, tokenizer)
        if file is not None:
            return HeldOutText(HeldOutRows(file, length), f"held-out documents of {settings['corpus']}")
    else:
        why = "the checkpoint does not say what it has learned from"
    file = prepare(CorpusOptions(EMBEDDED), tokenizer.vocab_size, tokenizer, train=False).val
    description = "documents of the documentation on this machine"
    return HeldOutText(HeldOutRows(file, length), description, f"These are not the run's own held-out text: {why}.")


def _documents(settings: Mapping[str, Any], known: Any, tokenizer: Tokenizer) -> tuple[TokenFile | None, str]:
    """The held-out documents that the run was scored on, or None and why they cannot be had."""
    corpus = str(settings["corpus"])
    kept = find_held_out(str(known), tokenizer) if known else None
    if kept is not None:
        return kept, ""
    val_corpus = settings.get("val_corpus")
    if any(parse_address(source) is not None for source in (corpus, val_corpus) if source):
        return None, f"the tokens of {corpus} are not in the cache any more, and nothing is fetched for this"
    sources = CorpusOptions(corpus, val_corpus, settings.get("column", "text"))
    try:
        prepared = prepare(sources, tokenizer.vocab_size, tokenizer, train=False)
    except ValueError as error:
        return None, str(error)
    if prepared.fingerprint != known:
        return None, f"{corpus} is not what it was when the run learned from it"
    return prepared.val, ""


def _conversations(settings: Mapping[str, Any], known: Any, tokenizer: Tokenizer) -> HeldOutText:
    """The held-out conversations of the run's tasks, but for those that would have to be fetched."""
    from nanochat.data.chat_data import DEFAULT_TASKS, ChatDataModule  # Lightning's: seconds to import
    from nanochat.data.conversations.task_sources import HUB

    tasks = settings.get("tasks") or DEFAULT_TASKS
    tasks = dict.fromkeys(tasks, 1.0) if not isinstance(tasks, Mapping) else tasks
    here = {name: weight for name, weight in tasks.items() if name not in HUB}
    options = {n: v for n, v in settings.items() if n in inspect.signature(ChatDataModule).parameters}
    try:
        data = ChatDataModule(**{**options, "tasks": here or None})
        data.use_tokenizer(tokenizer)
        data.setup("validate")
        why = "they would have to be fetched" if here != tasks else "the tasks are made of other text than they were"
    except ValueError as error:  # a file of the user's that is gone, say
        data = ChatDataModule(**{**options, "tasks": None})
        data.use_tokenizer(tokenizer)
        data.setup("validate")
        why = str(error)
    description = f"held-out conversations about {', '.join(data.weights)}"
    note = "" if data.fingerprint == known else f"These are not quite the run's own held-out conversations: {why}."
    return HeldOutText(data.held_out, description, note)
