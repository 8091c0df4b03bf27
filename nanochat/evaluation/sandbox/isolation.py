"""Leaves everything behind: the machine's processes, network and files, and all privileges.

It takes Linux's namespaces: as root directly, as any other user within a namespace of users, where the kernel lets
one make that. Only calls of libc, by ctypes: no other program is needed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from nanochat.evaluation.sandbox import seccomp

NEW_USERS = 0x10000000
# of mounts, control groups, host names, shared memory, processes, network
NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT = 1, 2, 4, 8, 32
BIND, REC, PRIVATE = 1 << 12, 1 << 14, 1 << 18
NOATIME, NODIRATIME, RELATIME = 1 << 10, 1 << 11, 1 << 21
DETACH = 2  # of umount2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
CAPABILITY_VERSION = 0x20080522

# Users and groups that own nothing, and that nothing else is likely to run as. Processes are counted by users, so
# sandboxes at the same time are not the same one.
NOBODY, NOBODIES = 62_000, 1_000
PYTHON, FOLDER = "/python", "/tmp"  # where they are inside
ROOT = "/proc"  # what the new root is mounted over: it exists everywhere, and nothing inside needs what it hides
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")  # what Python's own modules may be linked to
NODES = 1000  # files and folders in the folder

libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """The machine does not allow it; the text says what."""


def isolate(folder_bytes: int) -> bool:
    """Moves this process into namespaces and a file system of its own; those it forks are in a process namespace.

    Args:
        folder_bytes: how much the folder may hold.

    Returns:
        Whether this process was root, and still is.

    Raises:
        Refused: with the reason, if the machine does not allow it.
    """
    if seccomp.machine() is None:
        raise Refused("there is no filter of system calls for this kind of processor")
    privileged = _leave()
    _new_root(folder_bytes)
    return privileged


def _leave() -> bool:
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and _knows(NOBODY + NOBODIES - 1) and libc.unshare(NAMESPACES) == 0:
        return True
    _check("unshare (namespaces of users, processes, mounts and network)", libc.unshare(NAMESPACES | NEW_USERS))
    try:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{NOBODY} {uid} 1"), ("gid_map", f"{NOBODY} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    except OSError as error:
        raise Refused(f"namespace of users: {error}") from error
    return False


def _knows(user: int) -> bool:
    """Whether there is a user of this number: in a container there may be few."""
    with open("/proc/self/uid_map") as file:
        spans = [[int(number) for number in line.split()] for line in file]
    return any(first <= user < first + count for first, _, count in spans)


def _check(what: str, result: int) -> None:
    if result:
        number = ctypes.get_errno()
        why = "the kernel allows no more of them (user.max_user_namespaces)" if number == errno.ENOSPC else None
        raise Refused(f"{what}: {why or os.strerror(number)}")


def _mount(what: str, source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    given = [text.encode() or None for text in (source, target, kind)]
    _check(what, libc.mount(given[0], given[1], given[2], ctypes.c_ulong(flags), data.encode() or None))


def _new_root(folder_bytes: int) -> None:
    """A root in memory, with Python's files read-only and the folder, and no way back to the old one."""
    shown = list(_shown())
    _mount("mount (keeping mounts to oneself)", "none", "/", "", REC | PRIVATE)
    _mount("mount (a root in memory)", "root", ROOT, "tmpfs", NOSUID | NODEV, "size=1m,nr_inodes=200,mode=755")
    for source, target in shown:
        Path(ROOT + target).mkdir(parents=True, exist_ok=True)
        flags = BIND if libc.mount(source.encode(), (ROOT + target).encode(), None, BIND, None) == 0 else BIND | REC
        if flags & REC:  # has mounts below that this user cannot take away
            _mount(f"mount ({source})", source, ROOT + target, "", flags)
        _mount(f"mount ({source}, read-only)", "", ROOT + target, "", BIND | REMOUNT | RDONLY | _flags(ROOT + target))
    Path(ROOT + FOLDER).mkdir()
    limits = f"size={folder_bytes},nr_inodes={NODES},mode=777"
    _mount("mount (the folder)", "folder", ROOT + FOLDER, "tmpfs", NOSUID | NODEV | NOEXEC, limits)
    Path(ROOT, "old").mkdir()
    os.chdir(ROOT)
    _pivot_root()
    os.chdir("/")
    _check("umount (the old root)", libc.umount2(b"/old", DETACH))
    Path("/old").rmdir()
    _mount("mount (the root, read-only)", "", "/", "", BIND | REMOUNT | RDONLY | NOSUID | NODEV)
    os.chdir(FOLDER)
    _python_has_moved(shown[0][0])


def _python_has_moved(library: str) -> None:
    """What is imported from now on lies elsewhere: that holds for parts of packages that are here already, too."""

    def there(paths: Iterable[str]) -> list[str]:
        return [PYTHON + path.removeprefix(library) for path in paths if f"{path}/".startswith(f"{library}/")]

    sys.path[:] = there(sys.path)
    sys.path_importer_cache.clear()
    for module in list(sys.modules.values()):
        if isinstance(getattr(module, "__path__", None), list):
            module.__path__ = there(module.__path__)


def _pivot_root() -> None:
    kind = seccomp.machine()
    assert kind is not None
    _check("pivot_root", libc.syscall(ctypes.c_long(seccomp.KILLED["pivot_root"][kind.column]), b".", b"old"))


def _shown() -> Iterator[tuple[str, str]]:
    """What of the machine's files is to be seen, and where. First Python's own library."""
    library, base = sysconfig.get_path("stdlib"), sys.base_prefix.rstrip("/")
    if library.startswith(base + "/"):  # all of prefix/lib: modules may be linked to what lies beside them
        library = f"{base}/{library.removeprefix(base + '/').split('/')[0]}"
    yield library, PYTHON
    for path in LIBRARIES:
        if Path(path).is_dir():
            yield path, path


def _flags(path: str) -> int:
    """The flags that a mount has, which nobody may take from it; and those that it gets."""
    has = os.statvfs(path).f_flag
    found = NOSUID | NODEV | has & NOEXEC
    for bit, flag in ((1 << 10, NOATIME), (1 << 11, NODIRATIME), (1 << 12, RELATIME)):
        found |= flag if has & bit else 0
    return found


def drop_privileges(privileged: bool, number: int) -> None:
    """Becomes nobody, for good.

    Args:
        privileged: whether this process is the machine's root.
        number: another one for each sandbox.

    Raises:
        Refused: if that is not possible.
    """
    try:
        if privileged:
            nobody = NOBODY + number % NOBODIES
            os.setgroups([])
            os.setresgid(nobody, nobody, nobody)
            os.setresuid(nobody, nobody, nobody)
    except OSError as error:
        raise Refused(f"becoming nobody: {error}") from error
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    _check("giving up privileges", libc.capset(header, (ctypes.c_uint32 * 6)()))
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # no other process looks into this one


def limit(cpu_seconds: int, memory_bytes: int, file_bytes: int) -> None:
    """Limits for this process, and each that it forks."""
    for which, most in (
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        have = resource.getrlimit(which)[1]
        most = most if have == resource.RLIM_INFINITY else min(most, have)
        # a second more, after which the kernel kills without asking
        hard = most + 1 if which == resource.RLIMIT_CPU and (have == resource.RLIM_INFINITY or have > most) else most
        resource.setrlimit(which, (most, hard))


def limit_processes(most: int) -> None:
    """A limit for processes and threads of this user. (Linux before 5.14 counts those outside as well.)"""
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def die_with_parent() -> None:
    """Whatever ends the parent ends this process."""
    libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)
