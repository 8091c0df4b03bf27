"""Python and the packages: whether they are there, new enough, and can be imported."""

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

OLDEST, TESTED_TO = (3, 10), (3, 13)  # of Python
IMPORT_SECONDS = 180  # all packages together, on a slow disk
MODULES = {"pyyaml": "yaml", "jinja2": "jinja2", "huggingface-hub": "huggingface_hub"}  # imported by another name
# One process imports them all: one that dies of it (a wrong build for this processor) is known by its last line.
IMPORTING = """
import importlib, json, sys
def say(*what):
    print("\\nnanochat imports " + json.dumps(what), flush=True)  # packages may print as well
for name in sys.argv[1:]:
    say(name, None)
    try:
        importlib.import_module(name)
    except BaseException as error:
        say(name, f"{type(error).__name__}: {error}")
    else:
        say(name, "")
"""
SAID = "nanochat imports "


class Requirement(NamedTuple):
    """A package with the versions that will do: ("torch", ((">=", "2.9"),))."""

    name: str
    limits: tuple[tuple[str, str], ...]

    def in_words(self) -> str:
        return self.name + ",".join(sign + version for sign, version in self.limits)


def python() -> Check:
    """The interpreter's own version."""
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
    if sys.version_info[:2] > TESTED_TO:
        advice = f"it is newer than what the tests run on: if packages fail, take {TESTED_TO[0]}.{TESTED_TO[1]}"
        return Check("Python", NOTE, found, advice, facts)
    return Check("Python", OK, found, facts=facts)


def requirements() -> list[Requirement]:
    """What the project needs, by its own pyproject.toml, or by what was installed where that is not there."""
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
    """ "jsonargparse[signatures]>=4.40,<5" """
    name, _, limits = re.match(r"([\w.-]+)(\[[^\]]*\])?([^;]*)", line.strip()).groups()  # type: ignore[union-attr]
    return Requirement(name, tuple(re.findall(r"(>=|<=|==|!=|~=|<|>)\s*([\w.*+-]+)", limits)))


def satisfies(version: str, limits: Iterable[tuple[str, str]]) -> bool:
    """Whether a version lies within limits. Only numbers are compared, so 2.13.0+cpu and 2.13.0rc1 are 2.13.0."""
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
    """ "2.13.0+cpu" is (2, 13, 0)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def packages(wanted: Sequence[Requirement]) -> list[Check]:
    """One line for all that are well, one for those that are not there, and one for each that is broken."""
    versions = {requirement: _version(requirement.name) for requirement in wanted}
    there = [requirement for requirement, version in versions.items() if version is not None]
    errors = import_errors([_module(requirement.name) for requirement in there])
    checks: list[Check] = []
    good: dict[str, str] = {}
    unfit: dict[str, str | None] = {}
    for requirement, version in versions.items():
        name = requirement.name
        if version is None or not satisfies(version, requirement.limits):
            unfit[f"{requirement.in_words()} ({version})" if version else name] = version
        elif error := errors.get(_module(name)):
            advice = f"{python_command()} -m pip install --force-reinstall {name}=={version.split('+')[0]}"
            checks.append(Check(name, PROBLEM, f"{version} cannot be imported: {error}", advice, {"version": version}))
        else:
            good[name] = version
    if unfit:
        found = f"missing or too old or new: {', '.join(unfit)}"
        checks.insert(0, Check("packages", PROBLEM, found, installation_advice(), unfit))
    if not wanted:
        return [Check("packages", PROBLEM, "nanochat is not installed", installation_advice())]
    told = ", ".join(f"{name} {good[name]}" for name in ("torch", "lightning") if name in good)
    if good:
        found = f"{len(good)} of {len(versions)} are there and fit" + (f" ({told})" if told else "")
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
    """Imports modules in a process of its own; what went wrong, by their names."""
    errors: dict[str, str] = {}
    left = list(modules)
    while left:
        try:
            done = subprocess.run(
                [sys.executable, "-c", IMPORTING, *left], capture_output=True, text=True, timeout=IMPORT_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return {**errors, left[0]: f"{type(error).__name__}"}
        last = None
        for line in done.stdout.splitlines():
            if line.startswith(SAID):
                name, said = json.loads(line.removeprefix(SAID))
                last = (name, said)
                if said:
                    errors[name] = " ".join(said.split())[:120]
        if last is None or last[1] is not None:
            break  # all of them were tried
        errors[last[0]] = f"the process ends ({done.returncode}): is it built for this processor?"
        left = left[left.index(last[0]) + 1 :]
    return errors
