"""``download``: fetches the files of a corpus on the hub, for machines that train without a network."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from nanochat.cli.errors import EXIT_INTERRUPTED, UsageError, report_errors
from nanochat.cli.main import program_name
from nanochat.cli.parser import call
from nanochat.data.corpus.hub import KNOWN, list_corpus, parse_address
from nanochat.options import at_least
from nanochat.training.console import size

MAX_BYTES = 20_000_000_000  # a larger corpus is fetched only with --shards


def download(corpus: str, shards: int | None = None, split: str = "train") -> None:
    """Fetches the files of a corpus that are not on this machine, including a held-out one.

    Args:
        corpus: climbmix, fineweb-edu, tinystories, or hf://owner/name (also hf://owner/name@revision/folder).
        shards: Number of files to train on, from the first; null takes all of them.
        split: The split to train on.
    """
    address = parse_address(corpus)
    if address is None:
        raise UsageError(f"{corpus} is not a corpus on the hub: use one of {', '.join(KNOWN)}, or hf://owner/name")
    at_least(1, shards=shards)
    listing = list_corpus(address, split, refresh=True)
    all_bytes = sum(file.size or 0 for file in listing.train)
    if shards is None and all_bytes > MAX_BYTES:
        raise UsageError(
            f"{corpus} has {len(listing.train):,} files of {size(all_bytes)} in total: set the number to fetch "
            "(--shards=8)"
        )
    files = (*listing.held_out[:1], *listing.train[:shards])
    wanted = [listing.shard(file) for file in files]
    missing = [shard for shard in wanted if shard.local() is None]
    _check_disk(sum(shard.file.size or 0 for shard in missing))
    folder = wanted[0].fetch()[0].parent if wanted[0] not in missing else None
    for number, shard in enumerate(missing, len(wanted) - len(missing) + 1):
        tqdm.write(f"{number} of {len(wanted)}  {shard.name}  {size(shard.file.size or 0)}")
        folder = shard.fetch()[0].parent  # prints the library's progress bar
    print(f"{len(wanted)} files of {corpus} ({size(sum(f.size or 0 for f in files))}) are on this machine, in {folder}")
    print("To train on them, with or without a network:")
    chosen = f" --data.max_shards={len(wanted) - len(listing.held_out[:1])}" if shards is not None else ""
    print(f"  {program_name()} fit --config configs/small.yaml --data.corpus={corpus}{chosen}")


def _check_disk(needed: int) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = next(path for path in (Path(HF_HUB_CACHE), *Path(HF_HUB_CACHE).parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UsageError(
            f"{size(needed)} are to be fetched, but {folder} has {size(free)} free: lower --shards or set HF_HOME"
        )


def run(arguments: Sequence[str]) -> int:
    """Runs ``download``; returns the exit status."""
    try:
        return report_errors(lambda: call(download, arguments))
    except KeyboardInterrupt:
        print("\nStopped. Complete files are kept; run the same command again to fetch the others.", file=sys.stderr)
        return EXIT_INTERRUPTED
