"""Python and the packages: whether they are installed, recent enough, and can be imported."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import NamedTuple

from nanochat.doctor.check import NOTE, OK, PROBLEM, Check
from nanochat.doctor.environment import installation_advice
from nanochat.virtualenv import PROJECT, python_command

OLDEST, NEWEST_TESTED = (3, 10), (3, 13)  # Python versions
IMPORT_SECONDS = 180  # for all packages together, on a slow disk
MODULES = {
    "pyyaml": "yaml",
    "jinja2": "jinja2",
    "huggingface-hub": "huggingface_hub",
}  # packages whose module has another name
# One process imports all of them. If it dies (a build for another processor), its last line names the package.
IMPORT_SCRIPT = """
import importlib, json, sys
def report(*result):
    print("\\nnanochat imports " + json.dumps(result), flush=True)  # packages may print too
for name in sys.argv[1:]:
    report(name, None)
    try:
        importlib.import_module(name)
    except BaseException as error:
        report(name, f"{type(error).__name__}: {error}")
    else:
        report(name, "")
"""
PREFIX = "nanochat imports "


class Requirement(NamedTuple):
    """A package with its version limits: ("torch", ((">=", "2.9"),))."""

    name: str
    limits: tuple[tuple[str, str], ...]

    def text(self) -> str:
        return self.name + ",".join(sign + version for sign, version in self.limits)


def python() -> Check:
    """The interpreter's version."""
    found = f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.machine()}"
    facts = {"version": platform.python_version(), "executable": sys.executable, "platform": platform.platform()}
    if sys.version_info[:2] < OLDEST:
        return Check(
            "Python",
            PROBLEM,
            found,
            f"install Python {OLDEST[0]}.{OLDEST[1]} or newer: `PYTHON=python3.12 make setup` uses another",
            facts,
        )
    if sys.version_info[:2] > NEWEST_TESTED:
        advice = f"it is newer than the tested versions: if packages fail, use {NEWEST_TESTED[0]}.{NEWEST_TESTED[1]}"
        return Check("Python", NOTE, found, advice, facts)
    return Check("Python", OK, found, facts=facts)


def requirements() -> list[Requirement]:
    """The project's dependencies, from pyproject.toml, or from the installed metadata if there is no such file."""
    path = PROJECT / "pyproject.toml"
    if path.is_file():
        block = re.search(r"^dependencies = \[\n(.*?)^\]", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        lines = re.findall(r'^\s*"([^"]+)"', block[1], re.MULTILINE) if block else []
    else:
        try:
            lines = [line for line in metadata.requires("nanochat") or [] if "extra ==" not in line]
        except metadata.PackageNotFoundError:
            lines = []
    return [parse(line) for line in lines]


def parse(line: str) -> Requirement:
    """Parses a requirement such as "jsonargparse[signatures]>=4.40,<5"."""
    name, _, limits = re.match(r"([\w.-]+)(\[[^\]]*\])?([^;]*)", line.strip()).groups()  # type: ignore[union-attr]
    return Requirement(name, tuple(re.findall(r"(>=|<=|==|!=|~=|<|>)\s*([\w.*+-]+)", limits)))


def satisfies(version: str, limits: Iterable[tuple[str, str]]) -> bool:
    """Whether a version is within limits. Only numbers are compared: 2.13.0+cpu and 2.13.0rc1 count as 2.13.0."""
    for sign, limit in limits:
        have, want = numbers(version), numbers(limit)
        length = max(len(have), len(want))
        have, want = (part + (0,) * (length - len(part)) for part in (have, want))
        if not {">=": have >= want, "<=": have <= want, "==": have == want, "<": have < want, ">": have > want}.get(
            sign, True
        ):
            return False
    return True


def numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version: (2, 13, 0) for "2.13.0+cpu"."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def packages(wanted: Sequence[Requirement]) -> list[Check]:
    """One check for the good packages, one for the missing and unfit, and one for each that cannot be imported."""
    versions = {requirement: _version(requirement.name) for requirement in wanted}
    there = [requirement for requirement, version in versions.items() if version is not None]
    errors = import_errors([_module(requirement.name) for requirement in there])
    checks: list[Check] = []
    good: dict[str, str] = {}
    unfit: dict[str, str | None] = {}
    for requirement, version in versions.items():
        name = requirement.name
        if version is None or not satisfies(version, requirement.limits):
            unfit[f"{requirement.text()} ({version})" if version else name] = version
        elif error := errors.get(_module(name)):
            advice = f"{python_command()} -m pip install --force-reinstall {name}=={version.split('+')[0]}"
            checks.append(Check(name, PROBLEM, f"{version} cannot be imported: {error}", advice, {"version": version}))
        else:
            good[name] = version
    if unfit:
        found = f"missing, too old or too new: {', '.join(unfit)}"
        checks.insert(0, Check("packages", PROBLEM, found, installation_advice(), unfit))
    if not wanted:
        return [Check("packages", PROBLEM, "nanochat is not installed", installation_advice())]
    main = ", ".join(f"{name} {good[name]}" for name in ("torch", "lightning") if name in good)
    if good:
        found = f"{len(good)} of {len(versions)} are good" + (f" ({main})" if main else "")
        checks.insert(0, Check("packages", OK, found, facts={"versions": good}))
    return checks


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _module(name: str) -> str:
    return MODULES.get(name.lower(), name.replace("-", "_"))


def import_errors(modules: Sequence[str]) -> dict[str, str]:
    """Imports modules in a process of its own; returns the errors by module."""
    errors: dict[str, str] = {}
    left = list(modules)
    while left:
        try:
            done = subprocess.run(
                [sys.executable, "-c", IMPORT_SCRIPT, *left], capture_output=True, text=True, timeout=IMPORT_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as failure:
            return {**errors, left[0]: type(failure).__name__}
        last = None
        for line in done.stdout.splitlines():
            if line.startswith(PREFIX):
                name, error = json.loads(line.removeprefix(PREFIX))
                last = (name, error)
                if error:
                    errors[name] = " ".join(error.split())[:120]
        if last is None or last[1] is not None:
            break  # all modules were tried
        errors[last[0]] = f"the process ends ({done.returncode}): is it built for this processor?"
        left = left[left.index(last[0]) + 1 :]
    return errors
