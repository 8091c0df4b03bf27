"""``tokenizer train`` and ``tokenizer evaluate``: trains a tokenizer, and measures how well one compresses text."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nanochat.cli.errors import UsageError, check_free, report_errors
from nanochat.cli.main import COMMANDS, program_name
from nanochat.cli.parser import call
from nanochat.options import did_you_mean
from nanochat.runs import CHECKPOINTS
from nanochat.wording import plural

if TYPE_CHECKING:
    from nanochat.tokenizer import Tokenizer

MAX_HEADER = 14  # characters of a file name in the header of the table


def train(
    out: str,
    corpus: str = "embedded",
    vocab_size: int = 512,
    column: str = "text",
    split: str = "train",
    max_shards: int | None = None,
    overwrite: bool = False,
) -> None:
    """Trains a tokenizer on a corpus and writes it as JSON. (`fit` trains one automatically.)

    Args:
        out: The JSON file to write.
        corpus: embedded, the path of a file or a folder, or a corpus on the hub; as --data.corpus of `fit`.
        vocab_size: Number of tokens, including the nine special tokens; at least 265.
        column: The column of .parquet files, or the field of .jsonl records, that holds the text.
        split: The split of a corpus on the hub.
        max_shards: Read at most this many files of a corpus on the hub, from the first; null reads all.
        overwrite: Whether an existing file may be replaced.
    """
    from nanochat.data.corpus.corpora import open_corpus
    from nanochat.data.tokens.prepare import cached_tokenizer
    from nanochat.tokenizer.tokenizer import check_vocab_size

    path = Path(out)
    check_vocab_size(vocab_size)
    check_free(path, "--out", overwrite)
    tokenizer = cached_tokenizer(open_corpus(corpus, column, split, max_shards), True, vocab_size)
    tokenizer.save(path)
    ordinary = len(tokenizer.tokens)
    note = "" if ordinary + len(tokenizer.special_tokens) == vocab_size else " (the corpus has no more)"
    print(f"Wrote {path}: {vocab_size:,} tokens, including {plural(ordinary - 256, 'merge')} from {corpus}{note}")
    print("To measure how well it compresses:")
    print(f"  {program_name()} tokenizer evaluate --tokenizer={path}")


def evaluate(
    tokenizer: str | None = None,
    ckpt_path: str | None = None,
    name: str | None = None,
    root: str = ".",
    text: str | None = None,
) -> None:
    """Prints bytes of text per token, compared with the GPT-2 and GPT-4 tokenizers if tiktoken has them.

    Args:
        tokenizer: A JSON file written by `tokenizer train`; null takes the tokenizer of a model.
        ckpt_path: The model: a checkpoint file, the folder of a run, or last or best for the newest run.
        name: Take the newest run with this name.
        root: The folder that contains lightning_logs.
        text: A text file to measure in addition.
    """
    from nanochat.text_table import format_table
    from nanochat.tokenizer.compression import TEXTS, bytes_per_token, measure_references

    texts = dict(TEXTS)
    if text is not None:
        texts[Path(text).name[:MAX_HEADER]] = _read(Path(text))
    label, chosen = _load(tokenizer, ckpt_path, name, root)
    references, unavailable = measure_references(texts)
    measured = {label: bytes_per_token(chosen.encode, texts), **references}
    rows = [[name, *(f"{value:.2f}" for value in values.values())] for name, values in measured.items()]
    print("Bytes per token (more is better: the same text in fewer tokens)")
    print(format_table([["", *texts], *rows], right=range(1, 1 + len(texts))))
    if unavailable:
        print(f"Not compared with {' and '.join(unavailable)}: not on this machine, and the download failed")


def _read(path: Path) -> str:
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"--text={path}: not a text file in UTF-8") from error
    except OSError as error:
        raise UsageError(f"--text={path} cannot be read: {error.strerror}") from error
    if not content:
        raise UsageError(f"--text={path}: the file is empty")
    return content


def _load(file: str | None, ckpt_path: str | None, name: str | None, root: str) -> tuple[str, Tokenizer]:
    """A label, and the tokenizer from a JSON file or a checkpoint."""
    from nanochat.tokenizer import Tokenizer  # imported here so that --help stays fast

    if file is not None:
        if not Path(file).is_file():
            raise UsageError(f"there is no file {file}: create one with `{program_name()} tokenizer train`")
        return Path(file).stem, Tokenizer.load(Path(file))
    from nanochat.serving.find_model import resolve_checkpoint
    from nanochat.training.checkpoint.saved_model import read_model

    path = resolve_checkpoint(ckpt_path, name, root, program_name())
    in_run = path.absolute().parent.name == CHECKPOINTS
    return (path.absolute().parts[-4] if in_run else path.stem), read_model(path).tokenizer


FUNCTIONS: dict[str, Callable[..., None]] = {"train": train, "evaluate": evaluate}
SUMMARIES = {"train": "train a tokenizer on a corpus", "evaluate": "measure how well a tokenizer compresses text"}


def run(arguments: Sequence[str]) -> int:
    """Runs ``tokenizer train`` or ``tokenizer evaluate``; returns the exit status."""
    return report_errors(lambda: _call(arguments[1:]))


def _call(words: Sequence[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        print(
            f"usage: {program_name()} tokenizer {{{','.join(FUNCTIONS)}}} [options]\n\n"
            f"{COMMANDS['tokenizer'].description}\n"
        )
        print("\n".join(f"  {name:<10}{summary}" for name, summary in SUMMARIES.items()))
        return
    command = words[0]
    if command not in FUNCTIONS:
        raise UsageError(
            f"there is no command tokenizer {command}{did_you_mean(command, FUNCTIONS)} (one of {', '.join(FUNCTIONS)})"
        )
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    flags = {"overwrite": "Replace an existing file."} if command == "train" else {}
    call(FUNCTIONS[command], [f"tokenizer {command}", *words[1:]], SUMMARIES[command], **flags)
