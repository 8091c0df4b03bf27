"""Isolates a process from the machine's processes, network and files, and drops all privileges.

It uses Linux namespaces: directly as root; as any other user inside a user namespace, if the kernel allows users to
create one. It calls libc through ctypes, so no other program is needed.
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

CLONE_NEWUSER = 0x10000000
# CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET
NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT = 1, 2, 4, 8, 32
BIND, REC, PRIVATE = 1 << 12, 1 << 14, 1 << 18
NOATIME, NODIRATIME, RELATIME = 1 << 10, 1 << 11, 1 << 21
DETACH = 2  # of umount2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
CAPABILITY_VERSION = 0x20080522

# A range of unprivileged user and group ids that own nothing and are unlikely to be in use. The kernel counts processes
# by user, so concurrent sandboxes use different ids.
FIRST_UID, UID_COUNT = 62_000, 1_000
PYTHON, FOLDER = "/python", "/tmp"  # paths inside the sandbox
ROOT = "/proc"  # mount point of the new root: it exists on every machine, and the sandbox does not need it
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")  # Python's own modules may be linked to libraries here
MAX_FILES = 1000  # files and folders in the folder

libc = ctypes.CDLL(None, use_errno=True)


class IsolationError(Exception):
    """The machine does not allow a step of the isolation; the message has the step and the reason."""


def isolate(folder_bytes: int) -> bool:
    """Moves this process into new namespaces with a new root; its children are in a new process namespace.

    Args:
        folder_bytes: size limit of the writable folder.

    Returns:
        Whether this process is the machine's root user.

    Raises:
        IsolationError: if the machine does not allow it.
    """
    if seccomp.architecture() is None:
        raise IsolationError("there is no system call filter for this processor")
    privileged = _enter_namespaces()
    _change_root(folder_bytes)
    return privileged


def _enter_namespaces() -> bool:
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and _has_uid(FIRST_UID + UID_COUNT - 1) and libc.unshare(NAMESPACES) == 0:
        return True
    _check("unshare (user, process, mount and network namespaces)", libc.unshare(NAMESPACES | CLONE_NEWUSER))
    try:
        mappings = (("uid_map", f"{FIRST_UID} {uid} 1"), ("gid_map", f"{FIRST_UID} {gid} 1"))
        for name, text in (("setgroups", "deny"), *mappings):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    except OSError as error:
        raise IsolationError(f"user namespace: {error}") from error
    return False


def _has_uid(uid: int) -> bool:
    """Whether the user id is mapped in this user namespace; containers may map few."""
    with open("/proc/self/uid_map") as file:
        spans = [[int(number) for number in line.split()] for line in file]
    return any(first <= uid < first + count for first, _, count in spans)


def _check(step: str, result: int) -> None:
    if result:
        number = ctypes.get_errno()
        reason = "the kernel allows no more of them (user.max_user_namespaces)" if number == errno.ENOSPC else None
        raise IsolationError(f"{step}: {reason or os.strerror(number)}")


def _mount(step: str, source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    encoded = [text.encode() or None for text in (source, target, kind)]
    _check(step, libc.mount(*encoded, ctypes.c_ulong(flags), data.encode() or None))


def _change_root(folder_bytes: int) -> None:
    """Makes a new root in memory with Python's files, read-only, and the folder; the old root is unmounted."""
    visible = list(_visible_folders())
    _mount("mount (private propagation)", "none", "/", "", REC | PRIVATE)
    _mount("mount (a root in memory)", "root", ROOT, "tmpfs", NOSUID | NODEV, "size=1m,nr_inodes=200,mode=755")
    for source, target in visible:
        Path(ROOT + target).mkdir(parents=True, exist_ok=True)
        flags = BIND if libc.mount(source.encode(), (ROOT + target).encode(), None, BIND, None) == 0 else BIND | REC
        if flags & REC:  # there are mounts below it that this user cannot detach
            _mount(f"mount ({source})", source, ROOT + target, "", flags)
        flags = BIND | REMOUNT | RDONLY | _remount_flags(ROOT + target)
        _mount(f"mount ({source}, read-only)", "", ROOT + target, "", flags)
    Path(ROOT + FOLDER).mkdir()
    limits = f"size={folder_bytes},nr_inodes={MAX_FILES},mode=777"
    _mount("mount (the folder)", "folder", ROOT + FOLDER, "tmpfs", NOSUID | NODEV | NOEXEC, limits)
    Path(ROOT, "old").mkdir()
    os.chdir(ROOT)
    _pivot_root()
    os.chdir("/")
    _check("umount (the old root)", libc.umount2(b"/old", DETACH))
    Path("/old").rmdir()
    _mount("mount (the root, read-only)", "", "/", "", BIND | REMOUNT | RDONLY | NOSUID | NODEV)
    os.chdir(FOLDER)
    _update_import_paths(visible[0][0])


def _update_import_paths(library: str) -> None:
    """Points sys.path and the paths of imported packages to Python's new location."""

    def moved(paths: Iterable[str]) -> list[str]:
        return [PYTHON + path.removeprefix(library) for path in paths if f"{path}/".startswith(f"{library}/")]

    sys.path[:] = moved(sys.path)
    sys.path_importer_cache.clear()
    for module in list(sys.modules.values()):
        if isinstance(getattr(module, "__path__", None), list):
            module.__path__ = moved(module.__path__)


def _pivot_root() -> None:
    arch = seccomp.architecture()
    assert arch is not None
    _check("pivot_root", libc.syscall(ctypes.c_long(seccomp.KILLED_CALLS["pivot_root"][arch.column]), b".", b"old"))


def _visible_folders() -> Iterator[tuple[str, str]]:
    """The machine's folders that are visible inside, with their new paths. The first is Python's library."""
    library, base = sysconfig.get_path("stdlib"), sys.base_prefix.rstrip("/")
    if library.startswith(base + "/"):  # all of prefix/lib: modules may be linked to libraries in it
        library = f"{base}/{library.removeprefix(base + '/').split('/')[0]}"
    yield library, PYTHON
    for path in LIBRARIES:
        if Path(path).is_dir():
            yield path, path


def _remount_flags(path: str) -> int:
    """The flags for remounting a folder: its locked ones, which must stay set, and NOSUID and NODEV."""
    current = os.statvfs(path).f_flag
    flags = NOSUID | NODEV | current & NOEXEC
    for bit, flag in ((1 << 10, NOATIME), (1 << 11, NODIRATIME), (1 << 12, RELATIME)):
        flags |= flag if current & bit else 0
    return flags


def drop_privileges(privileged: bool, number: int) -> None:
    """Switches to an unprivileged user and drops all capabilities, irreversibly.

    Args:
        privileged: whether this process is the machine's root user.
        number: selects the user id; different for each sandbox.

    Raises:
        IsolationError: if the kernel does not allow it.
    """
    try:
        if privileged:
            uid = FIRST_UID + number % UID_COUNT
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
    except OSError as error:
        raise IsolationError(f"switching to an unprivileged user: {error}") from error
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    _check("dropping capabilities", libc.capset(header, (ctypes.c_uint32 * 6)()))
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # other processes cannot inspect this one


def set_limits(cpu_seconds: int, memory_bytes: int, file_bytes: int) -> None:
    """Sets resource limits of this process and the processes it forks."""
    for name, limit in (
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        current = resource.getrlimit(name)[1]
        unlimited = current == resource.RLIM_INFINITY
        soft = limit if unlimited else min(limit, current)
        # SIGXCPU comes at the soft limit of processor time; the kernel kills a second later
        hard = soft + 1 if name == resource.RLIMIT_CPU and (unlimited or current > soft) else soft
        resource.setrlimit(name, (soft, hard))


def limit_processes(count: int) -> None:
    """Limits the processes and threads of this user. (Linux before 5.14 also counts those outside of the sandbox.)"""
    resource.setrlimit(resource.RLIMIT_NPROC, (count, count))


def die_with_parent() -> None:
    """Makes the kernel kill this process when its parent ends."""
    libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)
