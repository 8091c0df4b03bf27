"""The embedded corpus: the documentation that is installed with this project's dependencies.

The docstrings of Python's standard library and of the packages that the project depends on hold about 22 MB of English
and code. A docstring is a document, headed by the name and the signature of the object that it describes.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import logging
import multiprocessing
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from nanochat.cache import atomic_folder, cache_root, checksum_of, read_checked, short_hash, write_checked
from nanochat.data.corpus.docstrings import DocEntry, read_c_modules, read_module, read_topics

log = logging.getLogger(__name__)

# Raise it when the scan finds other documents: older scans in the cache are then ignored.
VERSION = 1
DOCUMENTS = "documents.jsonl"
CHECKSUM = "checksum.json"  # of the documents

# The dependencies with useful documentation. A fixed list, so that the corpus does not depend on other installed
# packages; missing ones are skipped.
PACKAGES = (
    "torch",
    "numpy",
    "sympy",
    "networkx",
    "torchmetrics",
    "lightning",
    "mpmath",
    "tensorboard",
    "jsonargparse",
    "pyarrow",
    "PIL",
    "werkzeug",
    "fsspec",
    "aiohttp",
    "jinja2",
    "absl",
    "markdown",
    "yaml",
    "tqdm",
    "psutil",
    "tiktoken",
)
# Folders of tests, of vendored code, or of tens of megabytes of compiler internals without prose.
SKIPPED_FOLDERS = {
    *("test", "tests", "testing", "__pycache__", "site-packages", "dist-packages", "_vendor", "third_party"),
    *("idlelib", "lib2to3", "turtledemo", "ensurepip", "_inductor", "_export", "benchmarks", "_strobelight"),
}
MIN_CHARACTERS = 20  # shorter docstrings are skipped


def embedded_corpus() -> Path:
    """The folder with the corpus as ``documents.jsonl``. It is made by a scan if it is missing or damaged.

    The scan takes about 20 s on all cores, once for each set of installed versions.
    """
    target = cache_root() / "corpora" / f"embedded-{installation_key()}"
    if _is_whole(target):
        return target
    if target.exists():
        log.warning("The cached documentation in %s is damaged: reading it again (about 20 s) ...", target)
        with contextlib.suppress(FileNotFoundError):  # another process has removed it
            shutil.rmtree(target)
    with atomic_folder(target) as work:
        with open(work / DOCUMENTS, "w", encoding="utf-8") as file:
            for document in scan():
                file.write(json.dumps({"text": document.text, **document._asdict()}, ensure_ascii=False) + "\n")
        write_checked(work / CHECKSUM, checksum_of(work / DOCUMENTS))
    return target


def _is_whole(folder: Path) -> bool:
    try:
        return bool(read_checked(folder / CHECKSUM) == checksum_of(folder / DOCUMENTS))
    except (OSError, ValueError):  # missing or damaged
        return False


def installation_key() -> str:
    """Key of the scan's result: the versions of Python, of the packages and of the scan."""
    versions = {name: version for name in PACKAGES if (version := _version(name)) is not None}
    facts = [VERSION, sys.version, sys.platform, versions]
    return short_hash(facts)


def _version(package: str) -> str | None:
    distribution = {"PIL": "pillow", "yaml": "PyYAML", "absl": "absl-py"}.get(package, package)
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def scan() -> Iterator[DocEntry]:
    """All documents, each text once, in an order that depends only on their names."""
    files = [(path, module) for root, package in _roots() for path, module in _modules(root, package)]
    seen: set[str] = set()
    # "spawn": forking a process that runs torch's threads could deadlock
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.map(read_module, *zip(*files, strict=True), chunksize=8)
        for document in (*read_topics(), *read_c_modules(), *(d for documents in found for d in documents)):
            if len(document.docstring) >= MIN_CHARACTERS and document.docstring not in seen:
                seen.add(document.docstring)
                yield document


def _roots() -> Iterator[tuple[Path, str]]:
    yield Path(sysconfig.get_path("stdlib")), ""
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin).parent, package


def _modules(root: Path, package: str) -> Iterator[tuple[Path, str]]:
    """The source files below ``root`` with the names of their modules, sorted by path."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(set(subfolders) - SKIPPED_FOLDERS)
        for file in sorted(files):
            if file.endswith(".py"):
                path = Path(folder, file)
                parts = [*filter(None, [package]), *path.relative_to(root).with_suffix("").parts]
                yield path, ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
