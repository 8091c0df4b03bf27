"""The sandbox with harmful and cheating programs: none does harm or passes, and each outcome is reported."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from nanochat.evaluation.sandbox import run as sandbox
from nanochat.evaluation.sandbox import wire
from nanochat.evaluation.sandbox.run import KINDS, Limits, Outcome, missing_isolation, require_isolation

ROOT = Path(__file__).parents[2]
HUMANEVAL = ROOT.parent / "shared" / "data" / "humaneval" / "HumanEval.jsonl.gz"
isolated = pytest.mark.skipif(
    missing_isolation() is not None, reason=f"programs cannot be isolated here: {missing_isolation()}"
)
TESTS = "assert f(1) == 2\nassert f(2) == 3"
RIGHT = "def f(x): return x + 1"
# On a busy machine programs are slow, so only those that never end by themselves get limits of a few seconds.
PATIENT = Limits(cpu_seconds=20, wall_seconds=120.0)
FAST = PATIENT._replace(memory_bytes=200 << 20)  # little memory, which fills up quickly
# seconds of processor time
SHORT = {"an endless loop": 1, "an endless loop in the function": 1, "one that ignores signals": 1}

# name: (program, kind of outcome, a word of the detail)
BAD = {
    "an endless loop": ("while True: pass", "timeout", "processor time"),
    "an endless loop in the function": ("def f(x):\n while True: pass", "timeout", "processor time"),
    "one that ignores signals": (
        "import signal\nfor s in (2, 15, 24): signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
        "timeout",
        "processor time",
    ),
    "waiting": ("import time\ntime.sleep(1000)", "timeout", "3 seconds"),
    # would stop at 256 processes if the sandbox failed
    "a fork bomb": ("import os\nfor _ in range(8): os.fork()", "forbidden", "processes"),
    "a fork bomb in C": ("import ctypes\nfor _ in range(8): ctypes.CDLL(None).fork()", "forbidden", "system call"),
    "another program": ("import subprocess\nsubprocess.run(['true'])", "forbidden", "processes"),
    "a shell": ("import os\nos.system('true')", "forbidden", "processes"),
    "a link": ("import os\nos.symlink('/etc/passwd', 'link')\nprint(open('link').read())", "forbidden", "linking"),
    "a link in C": (
        "import ctypes\nassert ctypes.CDLL(None).symlink(b'/etc/passwd', b'link') == 0\nprint(open('link').read())",
        "exception",
        "FileNotFoundError",
    ),
    "shared memory": ("open('/dev/shm/x', 'w')", "forbidden", "writing /dev/shm/x"),
    "a double fork in C": (
        "import ctypes\nc = ctypes.CDLL(None)\nc.setsid()\nc.fork() or c.fork()",
        "forbidden",
        "system call",
    ),
    "closing all pipes": ("import os\nos.closerange(0, 64)\ndef f(x): return x + 1", "exited", "status 1"),
    "a signal by a pipe, to the test process": (
        "import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, 1)\nfcntl.fcntl(r, 10, 9)\n"  # F_SETSIG
        "fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)\nos.write(w, b'x')\nos._exit(0)",
        "exited",
        "status 0",
    ),
    "becoming another program": (
        "import ctypes\nctypes.CDLL(None).execv(b'/usr/bin/true', None)",
        "forbidden",
        "system call",
    ),
    "endless threads": (
        "import threading, time\nfor _ in range(200): threading.Thread(target=time.sleep, args=(9,)).start()",
        "exception",
        "thread",
    ),
    "100 GB": ("x = bytearray(100 << 30)", "memory", ""),
    "memory in small pieces": ("x = []\nwhile True: x.append(bytearray(1 << 20))", "memory", ""),
    "/etc/passwd": ("print(open('/etc/passwd').read())", "forbidden", "reading /etc/passwd"),
    "/etc/passwd, catching the exception": (
        f"try: open('/etc/passwd')\nexcept Exception: pass\n{RIGHT}",
        "forbidden",
        "reading /etc/passwd",
    ),
    "/etc/passwd in C": (
        "import ctypes\nassert ctypes.CDLL(None).open(b'/etc/passwd', 0) >= 0, 'not there'",
        "exception",
        "not there",
    ),
    "the home folder": ("import os\nos.listdir(os.path.expanduser('~'))", "forbidden", "listing"),
    "a real home folder": (f"import os\nos.listdir({str(Path.home())!r})", "forbidden", "listing"),
    "a file of the project": (
        f"open({__file__!r})",
        *(("exception", "FileNotFoundError") if __file__.startswith("/tmp/") else ("forbidden", "reading")),
    ),
    "deleting everything": ("import shutil\nshutil.rmtree('/')", "forbidden", "deleting /"),
    "deleting a file": ("import os\nos.remove('/python/os.py')", "forbidden", "deleting /python/os.py"),
    "deleting Python in C": (
        "import ctypes, os\nassert ctypes.CDLL(None).unlink(os.__file__.encode()) == 0, 'no'",
        "exception",
        "no",
    ),
    "writing outside": ("open('/outside', 'w')", "forbidden", "writing /outside"),
    "writing outside in C": (
        "import ctypes\nassert ctypes.CDLL(None).open(b'/outside', 0o101, 0o600) >= 0, 'read-only'",
        "exception",
        "read-only",
    ),
    "a huge file": (
        "with open('huge', 'wb') as file:\n while True: file.write(bytes(1 << 20))",
        "file size",
        "too large",
    ),
    "a file with a huge hole": ("open('huge', 'wb').truncate(1 << 40)", "file size", "too large"),
    "many files": ("for n in range(99): open(str(n), 'wb').write(bytes(1 << 20))", "file size", "No space"),
    "a socket": ("import socket\nsocket.socket()", "forbidden", "network"),
    "a connection": ("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:1')", "forbidden", "network"),
    "a socket in C": ("import ctypes\nctypes.CDLL(None).socket(2, 1, 0)", "forbidden", "system call"),
    "killing the parent": ("import os\nos.kill(os.getppid(), 9)", "forbidden", "signals"),
    "killing the parent in C": ("import ctypes, os\nctypes.CDLL(None).kill(os.getppid(), 9)", "forbidden", "system"),
    "killing all processes in C": ("import ctypes\nctypes.CDLL(None).kill(-1, 9)", "forbidden", "system call"),
    "changing limits of the test process": (
        "import resource\nresource.prlimit(1, resource.RLIMIT_CPU, (0, 0))",
        "forbidden",
        "system call",
    ),
    "new namespaces": ("import ctypes\nctypes.CDLL(None).unshare(0x10000000)", "forbidden", "system call"),
    "endless printing": ("while True: print('x' * 99)", "output", "bytes"),
    "a huge answer": ("def f(x): return 'x' * 9_000_000", "output", "bytes"),
    "exit 0": ("import sys\nsys.exit(0)", "exited", "0"),
    "exit 0 at once": ("import os\nos._exit(0)", "exited", "status 0"),
    "exit 0 in the function": ("import os\ndef f(x): os._exit(0)", "exited", "status 0"),
    "exit 0 in the second call": ("def f(x):\n if x == 2: raise SystemExit(0)\n return 2", "exited", "0"),
    "exit 0 at exit": ("import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return 0", "failed", "line 1"),
    "printing the verdict": (
        'print(\'["passed", ""]\')\nimport os\nos._exit(0)',
        "exited",
        "status 0",
    ),
    "a verdict on every pipe": (
        'import os\nfor n in range(50):\n try: os.write(n, b\'["passed", ""]\')\n except OSError: pass\nos._exit(0)',
        "output",
        "",
    ),
    "a forged passing message": (
        'import os\nd = b\'["over", "passed", ""]\'\nfor n in range(3, 50):\n'
        " try: os.write(n, len(d).to_bytes(4, 'big') + d)\n except OSError: pass\nos._exit(0)",
        "failed",
        "plain data",
    ),
    "an object that equals everything": (
        "class All:\n def __eq__(self, other): return True\ndef f(x): return All()",
        "failed",
        "line 1",
    ),
    "a number that equals everything": (
        "class All(int):\n def __eq__(self, other): return True\n __hash__ = int.__hash__\ndef f(x): return All()",
        "failed",
        "line 1",
    ),
    "replaced builtins": (
        "import builtins\nbuiltins.AssertionError = SystemExit\nbuiltins.exec = print\ndef f(x): return 7",
        "failed",
        "line 1",
    ),
    "looking for the tests": (
        "import gc\nfound = [o for o in gc.get_objects() if isinstance(o, dict) and 'tests' in o and 'given' in o]\n"
        "def f(x): return len(found)",
        "failed",
        "line 1",
    ),
    "a crash": ("import ctypes\nctypes.string_at(0)", "crashed", "11"),
    "endless recursion": ("def f(x): return f(x)", "exception", "RecursionError"),
    "a wrong program": ("def f(x): return x", "failed", "line 1 of the tests"),
    "a program that is right once": ("def f(x): return 2", "failed", "line 2 of the tests"),
    "an exception": ("def f(x): return 1 / 0", "exception", "ZeroDivisionError: division by zero"),
    "an assertion of its own": ("def f(x): assert False, 'mine'", "exception", "AssertionError: mine"),
    "invalid Python": ("def f(x: return", "exception", "SyntaxError"),
    "no such function": ("def g(x): return x + 1", "exception", "does not define f"),
    "an empty program": ("", "exception", "does not define f"),
}


def run_tests(program: str, name: str, tests: str, given: str = "", limits: Limits = PATIENT) -> Outcome:
    """Runs the sandbox with generous limits."""
    return sandbox.run_tests(program, name, tests, given, limits)


def sandbox_processes(parent: int) -> list[psutil.Process]:
    """Running processes of the sandboxes that a process has started."""
    processes, mark = psutil.process_iter(["cmdline", "status"]), f"main({parent})"
    return [p for p in processes if mark in " ".join(p.info["cmdline"] or ()) and p.info["status"] != "zombie"]


@isolated
def test_a_right_program_passes() -> None:
    outcome = run_tests(RIGHT, "f", TESTS)
    assert outcome.passed, outcome
    assert outcome.detail == "2 calls"
    assert str(outcome) == "all tests passed (2 calls)"


@isolated
@pytest.mark.parametrize("name", BAD)
def test_bad_programs_do_not_pass(name: str) -> None:
    program, kind, words = BAD[name]
    limits = FAST._replace(cpu_seconds=SHORT.get(name, FAST.cpu_seconds))
    if name == "waiting":
        limits = limits._replace(wall_seconds=3.0)
    outcome = run_tests(program, "f", TESTS, limits=limits)
    assert outcome.kind == kind, outcome
    assert words in outcome.detail
    assert not outcome.passed
    assert outcome.kind in KINDS
    assert len(outcome.output) <= FAST.output_bytes
    assert outcome.seconds < limits.wall_seconds + 60
    _until(lambda: not sandbox_processes(os.getpid()))
    assert not Path("/outside").exists()


@isolated
@pytest.mark.parametrize(
    "program",
    [
        "open('notes', 'w').write('1')\nx = int(open('notes').read())\nimport os\nos.remove('notes')\n"
        "def f(y): return x + y",  # a file in the writable folder
        "import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()\n" + RIGHT,
        "import re, math, hashlib, collections, heapq, random, string, datetime, json.tool, decimal, fractions\n"
        "assert 'é'.encode('latin-1') == 'é'.encode('cp1252')\n"
        "hashlib.md5(b'').hexdigest()\n" + RIGHT,
        "import sys\nprint('note', file=sys.stderr)\n" + RIGHT,
        "try: x = bytearray(100 << 30)\nexcept MemoryError: pass\n" + RIGHT,  # a refused allocation is harmless
    ],
)
def test_allowed_actions(program: str) -> None:
    assert run_tests(program, "f", TESTS).passed


@isolated
def test_folder_is_empty_each_time() -> None:
    program = "import os\nfound = os.listdir('.')\nopen('left', 'w').write('')\ndef f(): return found"
    for _ in range(2):
        assert run_tests(program, "f", "assert f() == []").passed


@isolated
def test_environment_processes_and_user_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the user")
    program = "import os\ndef f(): return [dict(os.environ), os.getpid(), os.path.exists('/proc/1'), os.getuid()]"
    tests = "environment, pid, proc, user = f()\nassert environment == {'HOME': '/nonexistent'}, environment\n"
    tests += f"assert pid == 2 and not proc and user not in (0, {os.getuid()})"
    assert run_tests(program, "f", tests).passed


@isolated
def test_only_python_files_are_visible() -> None:
    program = "import os\ndef f(): return [p for p in %r if os.path.exists(p)]"
    places = ["/etc", "/root", "/home", "/proc/self", "/dev/null", "/sys", "/var", "/usr/bin", "/bin", "/old", "/run"]
    assert run_tests(program % [*places, str(ROOT)], "f", "assert f() == []").passed


@isolated
def test_plain_data_round_trip() -> None:
    tests = """
for value in (None, True, 1, -(10 ** 5000), 0.1, float("inf"), "\\ud800 \\u20ac", b"x", 1j, [], [[1], (2, 3)], {1: {2}},
              {(1, 2): frozenset("a")}, {}, "", set()):
    assert f(value) == value and type(f(value)) is type(value), value
assert f(x=1) == 1
assert f(float("nan")) != f(float("nan"))
"""
    assert run_tests("def f(x): return x", "f", tests).passed


@isolated
def test_exceptions_reach_the_tests() -> None:
    program = "class Own(Exception): pass\ndef f(x):\n if x: raise KeyError('k')\n raise Own('o')"
    tests = (
        "try: f(1)\nexcept KeyError: pass\nelse: assert False\ntry: f(0)\nexcept Exception as e: assert str(e) == 'o'"
    )
    assert run_tests(program, "f", tests).passed


@isolated
def test_stop_iteration_does_not_end_loops_of_the_tests() -> None:
    tests = "assert all(map(lambda x: f(x) == x + 1, range(3)))"
    assert run_tests(RIGHT, "f", tests).passed
    assert run_tests("def f(x): raise StopIteration", "f", tests).kind == "exception"


@isolated
def test_given_helpers_cannot_be_replaced() -> None:
    given = "def double(x): return 2 * x\ndef f(x):\n '''Halves.'''\n"
    tests = "assert double(f(6)) == 6"
    assert run_tests(given + " return x // 2\ndef double(x): return 6", "f", tests, given).passed
    assert run_tests(given + " return x\ndef double(x): return 6", "f", tests, given).kind == "failed"


@isolated
def test_tests_without_calls_fail() -> None:
    assert run_tests(RIGHT, "f", "pass").kind == "failed"


@isolated
def test_tests_cannot_hide_an_exit() -> None:
    tests = "try: f(1)\nexcept BaseException: pass"
    assert run_tests("import os\ndef f(x): os._exit(0)", "f", tests).kind == "exited"


@isolated
def test_concurrent_sandboxes() -> None:
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda n: run_tests(f"def f(): return {n}", "f", f"assert f() == {n}"), range(24)))
    assert all(outcome.passed for outcome in outcomes), outcomes


@isolated
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_sandbox_ends_with_its_parent(number: int) -> None:
    code = (
        "from nanochat.evaluation.sandbox.run import Limits, run_tests; print('begun', flush=True);"
        "run_tests('import time\\ndef f(): time.sleep(1000)', 'f', 'f()', limits=Limits(wall_seconds=1000))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process, process.stdout:
        process.stdout.readline()
        _until(
            lambda: len(sandbox_processes(process.pid)) == 3
        )  # the parent of the namespace, the test process, the program process
        process.send_signal(number)
        _until(lambda: not sandbox_processes(process.pid))


def _until(condition: object, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


@isolated
@pytest.mark.skipif(os.getuid() != 0, reason="only root can switch to another user")
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="no Python that other users can run")
def test_as_an_unprivileged_user() -> None:
    code = (
        "from nanochat.evaluation.sandbox.run import Limits, missing_isolation, run_tests; print(missing_isolation());"
        "tried = lambda p: run_tests(p, 'f', 'assert f() == 1', limits=Limits(20, 120.0)).kind;"
        "print([tried(p) for p in ('def f(): return 1', 'def f(): return 2',"
        " 'open(\"/etc/passwd\")', 'import ctypes\\nctypes.CDLL(None).fork()', 'import os\\nos._exit(0)')])"
    )
    if not _readable_by_all(ROOT):
        pytest.skip("other users cannot read this folder")
    command = ["/usr/bin/python3", "-B", "-c", code]
    done = subprocess.run(command, cwd=ROOT, user=65534, group=65534, extra_groups=[], capture_output=True, text=True)
    if done.returncode or not done.stdout.startswith("None"):
        pytest.skip(f"unprivileged users cannot isolate programs here: {done.stdout}{done.stderr[-200:]}")
    assert done.stdout.splitlines()[1] == "['passed', 'failed', 'forbidden', 'forbidden', 'exited']"


def _readable_by_all(folder: Path) -> bool:
    return all(parent.stat().st_mode & 0o5 == 0o5 for parent in (folder, *folder.parents))


def test_without_linux_no_program_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from nanochat.evaluation.sandbox import run

    monkeypatch.setattr(run.sys, "platform", "darwin")
    run.missing_isolation.cache_clear()
    try:
        assert run_tests("print('ran')", "f", "f()") == Outcome("refused", "this is not Linux", "", 0.0)
        with pytest.raises(ValueError, match="cannot be isolated here.*not Linux.*leave HumanEval out"):
            require_isolation()
    finally:
        monkeypatch.undo()
        run.missing_isolation.cache_clear()


@isolated
def test_missing_namespaces_are_reported() -> None:
    code = (
        "import ctypes; from nanochat.evaluation.sandbox.run import missing_isolation;"
        "assert ctypes.CDLL(None).unshare(0x10000000) == 0;"
        f"import os; open('/proc/self/uid_map', 'w').write('0 {os.getuid()} 1');"
        "open('/proc/sys/user/max_user_namespaces', 'w').write('0'); print(missing_isolation())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"namespaces cannot be limited here: {done.stderr[-200:]}")
    assert "unshare" in done.stdout
    assert "max_user_namespaces" in done.stdout


def test_invalid_messages_are_refused() -> None:
    for bad in ({"dict": 1}, {"int": "zz"}, {"a": 1, "b": 2}, {"none": []}, {"set": [[1]]}, {"complex": [1, 2, 3]}):
        with pytest.raises((ValueError, TypeError)):
            wire.unpack(bad)
    assert repr(wire.unpack(wire.pack(object()))) == "<object>"


@isolated
@pytest.mark.slow
@pytest.mark.skipif(not HUMANEVAL.exists(), reason=f"there is no {HUMANEVAL}")
def test_all_reference_solutions_of_humaneval_pass() -> None:
    with gzip.open(HUMANEVAL, "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]

    def run(record: dict[str, str], solution: str) -> Outcome:
        tests = f"{record['test']}\ncheck({record['entry_point']})"
        return run_tests(record["prompt"] + solution, record["entry_point"], tests, record["prompt"])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        right = list(pool.map(lambda r: run(r, r["canonical_solution"]), records))
        wrong = list(pool.map(lambda r: run(r, "    return None\n"), records))
    assert [o for o in right if not o.passed] == []
    assert [o for o in wrong if o.passed] == []
