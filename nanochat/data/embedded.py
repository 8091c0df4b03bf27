"""The embedded corpus: the documentation that every installation of this project already carries.

About 19 MB of English and code lie in the docstrings of Python's standard library and of the packages that the
project depends on. They are read by parsing the source, without importing it: a docstring is a document, headed by
the name and the signature of what it describes. C modules have no source; a few are asked for their docstrings.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import logging
import multiprocessing
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from nanochat.cache import cache_root, checksum_of, new_folder, read_checked, write_checked

log = logging.getLogger(__name__)

# Raise it when the scan changes what it finds: older scans in the cache are then left alone.
VERSION = 1
DOCUMENTS = "documents.jsonl"
CHECKSUM = "checksum.json"  # of the documents

# A fixed list, so that the corpus does not change with what else is installed: the dependencies whose documentation
# is worth reading. Those that are missing on a machine are left out.
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
# Folders that hold tests, code in other people's names, or tens of megabytes of compiler internals without prose.
SKIPPED_FOLDERS = {
    *("test", "tests", "testing", "__pycache__", "site-packages", "dist-packages", "_vendor", "third_party"),
    *("idlelib", "lib2to3", "turtledemo", "ensurepip", "_inductor", "_export", "benchmarks", "_strobelight"),
}
# Modules written in C, by the name under which people know what is in them.
C_MODULES = {
    "builtins": "",
    "math": "math",
    "cmath": "cmath",
    "itertools": "itertools",
    "_collections": "collections",
    "_functools": "functools",
    "_operator": "operator",
    "_datetime": "datetime",
    "_random": "random",
    "_struct": "struct",
    "_heapq": "heapq",
    "_bisect": "bisect",
    "time": "time",
    "sys": "sys",
    "gc": "gc",
    "array": "array",
    "posix": "os",
    "nt": "os",
}
MIN_CHARACTERS = 20  # a shorter docstring says nothing
MAX_SIGNATURE = 200  # characters; a longer one is cut, it would drown the text
# Functions written in C get their docstrings from calls of these: torch's and numpy's ways.
DOCSTRING_CALLS = {"add_docstr", "add_newdoc"}


class Documented(NamedTuple):
    """Something that has a docstring."""

    name: str  # as one would import it: "textwrap.dedent"
    signature: str  # "(text)", or "" for modules and classes without a constructor
    docstring: str

    @property
    def text(self) -> str:
        """The document that a model reads."""
        return f"{self.name}{self.signature}\n\n{self.docstring}\n"


def embedded_corpus() -> Path:
    """The folder with the corpus as ``documents.jsonl``, scanned if this installation has not been scanned before.

    The scan takes all cores about 20 s, once for each set of installed versions, and again if what it found is damaged.
    """
    target = cache_root() / "corpora" / f"embedded-{installation_key()}"
    if _is_whole(target):
        return target
    if target.exists():
        log.warning("The documentation kept in %s is damaged: reading it again (about 20 s) ...", target)
        with contextlib.suppress(FileNotFoundError):  # another process that noticed it was quicker
            shutil.rmtree(target)
    with new_folder(target) as work:
        with open(work / DOCUMENTS, "w", encoding="utf-8") as file:
            for document in scan():
                file.write(json.dumps({"text": document.text, **document._asdict()}, ensure_ascii=False) + "\n")
        write_checked(work / CHECKSUM, checksum_of(work / DOCUMENTS))
    return target


def _is_whole(folder: Path) -> bool:
    try:
        return bool(read_checked(folder / CHECKSUM) == checksum_of(folder / DOCUMENTS))
    except (OSError, ValueError):  # not there, or damaged
        return False


def installation_key() -> str:
    """Changes whenever the scan could find something else: with the version of Python or of a package."""
    versions = {name: version for name in PACKAGES if (version := _version(name)) is not None}
    facts = [VERSION, sys.version, sys.platform, versions]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _version(package: str) -> str | None:
    distribution = {"PIL": "pillow", "yaml": "PyYAML", "absl": "absl-py"}.get(package, package)
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def scan() -> Iterator[Documented]:
    """All documents, each text once, in an order that depends on names alone."""
    files = [(path, module) for root, package in _roots() for path, module in _modules(root, package)]
    seen: set[str] = set()
    # "spawn": forking a process that runs torch's threads could hang
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
    """The source files below ``root`` with their modules' names, in the order of their paths."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(set(subfolders) - SKIPPED_FOLDERS)
        for file in sorted(files):
            if file.endswith(".py"):
                path = Path(folder, file)
                parts = [*filter(None, [package]), *path.relative_to(root).with_suffix("").parts]
                yield path, ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_module(path: Path, module: str) -> list[Documented]:
    """The docstrings of a module, its classes, their methods, and its functions, from the file's text alone.

    A file that cannot be read or parsed (templates, other versions' syntax) holds no documents.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return []
    found: list[Documented] = []
    if docstring := ast.get_docstring(tree):
        found.append(Documented(module, "", docstring))
    _visit(tree.body, module, found)
    # the text of some files holds what UTF-8 cannot: half of a surrogate pair, written as an escape
    return [d for d in found if d.text.isascii() or _is_unicode(d.text)]


def _visit(body: Iterable[ast.stmt], prefix: str, found: list[Documented]) -> None:
    for node in body:
        match node:
            case ast.ClassDef():
                if docstring := ast.get_docstring(node):
                    constructor = next(
                        (n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None
                    )
                    found.append(Documented(f"{prefix}.{node.name}", _signature(constructor), docstring))
                _visit(node.body, f"{prefix}.{node.name}", found)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                if docstring := ast.get_docstring(node):
                    found.append(Documented(f"{prefix}.{node.name}", _signature(node), docstring))
            case ast.If() | ast.Try():  # definitions that depend on the platform
                _visit(node.body, prefix, found)
                _visit(node.orelse, prefix, found)
            case ast.Expr(value=ast.Call() as call):
                if document := _docstring_call(call):
                    found.append(document)


def _signature(function: ast.FunctionDef | ast.AsyncFunctionDef | None) -> str:
    if function is None:
        return ""
    arguments = function.args
    for named in (arguments.posonlyargs, arguments.args):
        if named and named[0].arg in ("self", "cls"):
            del named[0]  # the caller does not write it
            break
    text = f"({ast.unparse(arguments)})"
    return text if len(text) <= MAX_SIGNATURE else f"{text[: MAX_SIGNATURE - 4]}...)"


def _docstring_call(call: ast.Call) -> Documented | None:
    """``add_docstr(torch.abs, "...")`` and ``add_newdoc("numpy", "array", "...")``."""
    function = call.func
    called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if called not in DOCSTRING_CALLS or len(call.args) < 2:
        return None
    *names, docstring = call.args
    text = _literal_text(docstring)
    if text is None:
        return None
    words = [n.value if isinstance(n, ast.Constant) else ast.unparse(n) for n in names]
    lines = [line for line in text.splitlines() if not re.fullmatch(r"\s*\{\w+\}\s*", line)]
    return Documented(".".join(map(str, words)), "", inspect.cleandoc("\n".join(lines)))


def _literal_text(node: ast.expr) -> str | None:
    """The text of a string literal, of a sum of some, or of ``"...".format(**shared_texts)``."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Call(func=ast.Attribute(value=inner, attr="format")):
            return _literal_text(inner)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            texts = [_literal_text(left), _literal_text(right)]
            return "".join(t for t in texts if t is not None) if any(texts) else None
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_topics() -> Iterator[Documented]:
    """The Python manual's topics, which ``help()`` shows: statements, operators, the data model and the like."""
    path = Path(sysconfig.get_path("stdlib"), "pydoc_data", "topics.py")
    if not path.is_file():
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for name, text in sorted(ast.literal_eval(node.value).items()):
                yield Documented(name, "", text.strip())


def read_c_modules() -> Iterator[Documented]:
    """Docstrings of the functions, classes and methods of Python's own C modules."""
    for module_name, known_as in C_MODULES.items():
        if importlib.util.find_spec(module_name) is None:
            continue  # posix or nt, whichever this is not
        module = importlib.import_module(module_name)
        for name, value in sorted(vars(module).items(), key=lambda pair: pair[0]):
            if module is sys:  # a program may have put hooks of its own into their place
                value = getattr(sys, f"__{name}__", value)
            if name.startswith("_") or not (inspect.isroutine(value) or inspect.isclass(value)):
                continue
            full_name = f"{known_as}.{name}".lstrip(".")
            if getattr(value, "__module__", None) not in (module_name, known_as):
                continue  # it only passes through here
            yield from _live(full_name, value)
            if inspect.isclass(value) and not issubclass(value, BaseException):
                for method, function in sorted(vars(value).items()):
                    if not method.startswith("_") and inspect.isroutine(function):
                        yield from _live(f"{full_name}.{method}", function)


def _live(name: str, value: object) -> Iterator[Documented]:
    docstring = inspect.getdoc(value)
    if docstring:
        signature = getattr(value, "__text_signature__", None) or ""
        signature = re.sub(r"\$?(self|module|type)(, |(?=\)))", "", signature, count=1)
        yield Documented(name, signature.replace("(/, ", "(").replace("(/)", "()"), docstring)
