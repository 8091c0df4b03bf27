"""Reading docstrings without importing modules: their source is parsed, not run.

C modules have no source; a few of Python's own are imported for their docstrings.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

MAX_SIGNATURE = 200  # characters; longer ones are cut
# torch and numpy call these functions to add docstrings to functions written in C.
DOCSTRING_CALLS = {"add_docstr", "add_newdoc"}
# Modules written in C, and the public names of the modules that export them.
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


class DocEntry(NamedTuple):
    """An object that has a docstring."""

    name: str  # as it is imported: "textwrap.dedent"
    signature: str  # "(text)", or "" for modules and classes without a constructor
    docstring: str

    @property
    def text(self) -> str:
        """The document: name, signature and docstring."""
        return f"{self.name}{self.signature}\n\n{self.docstring}\n"


def read_module(path: Path, module: str) -> list[DocEntry]:
    """The docstrings of a module, its classes, their methods, and its functions, from the source.

    A file that cannot be read or parsed (a template, the syntax of another version) has none.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return []
    found: list[DocEntry] = []
    if docstring := ast.get_docstring(tree):
        found.append(DocEntry(module, "", docstring))
    _visit(tree.body, module, found)
    # some files contain lone surrogates, written as escapes, which cannot be encoded as UTF-8
    return [d for d in found if d.text.isascii() or _is_unicode(d.text)]


def _visit(body: Iterable[ast.stmt], prefix: str, found: list[DocEntry]) -> None:
    for node in body:
        match node:
            case ast.ClassDef():
                if docstring := ast.get_docstring(node):
                    constructor = next(
                        (n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None
                    )
                    found.append(DocEntry(f"{prefix}.{node.name}", _signature(constructor), docstring))
                _visit(node.body, f"{prefix}.{node.name}", found)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                if docstring := ast.get_docstring(node):
                    found.append(DocEntry(f"{prefix}.{node.name}", _signature(node), docstring))
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
            del named[0]  # not written by the caller
            break
    text = f"({ast.unparse(arguments)})"
    return text if len(text) <= MAX_SIGNATURE else f"{text[: MAX_SIGNATURE - 4]}...)"


def _docstring_call(call: ast.Call) -> DocEntry | None:
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
    return DocEntry(".".join(map(str, words)), "", inspect.cleandoc("\n".join(lines)))


def _literal_text(node: ast.expr) -> str | None:
    """The text of a string literal, of a sum of literals, or of ``"...".format(**shared_texts)``."""
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


def read_topics() -> Iterator[DocEntry]:
    """The topics of the Python manual that ``help()`` shows: statements, operators, the data model and others."""
    path = Path(sysconfig.get_path("stdlib"), "pydoc_data", "topics.py")
    if not path.is_file():
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for name, text in sorted(ast.literal_eval(node.value).items()):
                yield DocEntry(name, "", text.strip())


def read_c_modules() -> Iterator[DocEntry]:
    """Docstrings of the functions, classes and methods of Python's own C modules."""
    for module_name, known_as in C_MODULES.items():
        if importlib.util.find_spec(module_name) is None:
            continue  # posix exists on Unix only, nt on Windows only
        module = importlib.import_module(module_name)
        for name, value in sorted(vars(module).items(), key=lambda pair: pair[0]):
            if module is sys:  # a program may have replaced hooks; take the originals
                value = getattr(sys, f"__{name}__", value)
            if name.startswith("_") or not (inspect.isroutine(value) or inspect.isclass(value)):
                continue
            full_name = f"{known_as}.{name}".lstrip(".")
            if getattr(value, "__module__", None) not in (module_name, known_as):
                continue  # defined in another module
            yield from _live(full_name, value)
            if inspect.isclass(value) and not issubclass(value, BaseException):
                for method, function in sorted(vars(value).items()):
                    if not method.startswith("_") and inspect.isroutine(function):
                        yield from _live(f"{full_name}.{method}", function)


def _live(name: str, value: object) -> Iterator[DocEntry]:
    docstring = inspect.getdoc(value)
    if docstring:
        signature = getattr(value, "__text_signature__", None) or ""
        signature = re.sub(r"\$?(self|module|type)(, |(?=\)))", "", signature, count=1)
        yield DocEntry(name, signature.replace("(/, ", "(").replace("(/)", "()"), docstring)
