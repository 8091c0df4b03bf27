"""A system call filter (seccomp) that kills a process on calls which a computing program does not need.

Most of these calls would be harmless inside the namespaces. The filter makes the namespaces harder to break out of and
prevents fork bombs. Call numbers are from the kernel's tables for each architecture.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import NamedTuple

# killing calls, name: (x86-64, aarch64); -1 where there is no such call
KILLED_CALLS = {
    "fork": (57, -1),
    "vfork": (58, -1),
    "execve": (59, 221),
    "execveat": (322, 281),
    "socket": (41, 198),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "tkill": (200, 130),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_by_handle_at": (304, 265),
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "memfd_create": (319, 279),  # this and the following ones allocate memory that RLIMIT_AS does not count
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
}
SELF_ONLY_CALLS = {"kill": (62, 129), "tgkill": (234, 131)}  # allowed only to the process itself, as abort() does
CLONE, CLONE3 = (56, 220), (435, 435)
PRLIMIT = (302, 261)  # allowed only for the process itself

CLONE_THREAD = 0x10000
ENOSYS = 38
# linux/bpf_common.h, linux/seccomp.h, linux/audit.h
LOAD, JUMP_EQUAL, JUMP_BITS, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER, ARCHITECTURE, ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
X32 = 0x40000000  # bit of calls of the x32 ABI, which have other numbers
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2


class Architecture(NamedTuple):
    """A processor architecture: its column in the tables above, and its AUDIT_ARCH constant."""

    column: int
    audit: int


ARCHITECTURES = {"x86_64": Architecture(0, 0xC000003E), "aarch64": Architecture(1, 0xC00000B7)}


def architecture() -> Architecture | None:
    """This machine's architecture; None if it has no tables above or the interpreter is a 32-bit one."""
    return ARCHITECTURES.get(platform.machine()) if struct.calcsize("P") == 8 else None


def build_filter(arch: Architecture, pid: int) -> list[tuple[int, int, int, int]]:
    """The filter's BPF instructions: (code, jump if true, jump if false, constant).

    Args:
        arch: the machine's architecture.
        pid: process id of the process, which may send signals to itself.
    """

    def end(action: int) -> tuple[int, int, int, int]:
        return (RETURN, 0, 0, action)

    lines = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, arch.audit),
        end(KILL),
        (LOAD, 0, 0, NUMBER),
        (JUMP_BITS, 0, 1, X32),
        end(KILL),
    ]
    for numbers in KILLED_CALLS.values():
        if numbers[arch.column] >= 0:
            lines += [(JUMP_EQUAL, 0, 1, numbers[arch.column]), end(KILL)]
    # if clone3 is missing, glibc uses clone, whose first argument tells threads from processes
    lines += [(JUMP_EQUAL, 0, 1, CLONE3[arch.column]), end(ERRNO | ENOSYS)]
    lines += [
        (JUMP_EQUAL, 0, 4, CLONE[arch.column]),
        (LOAD, 0, 0, ARGUMENT),
        (JUMP_BITS, 0, 1, CLONE_THREAD),
        end(ALLOW),
        end(KILL),
    ]
    for numbers in (*SELF_ONLY_CALLS.values(), PRLIMIT):
        own = [(JUMP_EQUAL, 0, 1, pid), end(ALLOW)]
        if numbers == PRLIMIT:
            own += [(JUMP_EQUAL, 0, 1, 0), end(ALLOW)]  # pid 0 means the process itself
        lines += [(JUMP_EQUAL, 0, len(own) + 2, numbers[arch.column]), (LOAD, 0, 0, ARGUMENT), *own, end(KILL)]
    return [*lines, end(ALLOW)]


class _Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("true", ctypes.c_uint8), ("false", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction))]


def install_filter() -> None:
    """Installs the filter in this process; it cannot be removed.

    Raises:
        OSError: if the kernel does not allow it.
    """
    arch = architecture()
    assert arch is not None, "isolation.isolate() checks this"
    lines = build_filter(arch, os.getpid())
    instructions = (_Instruction * len(lines))(*(_Instruction(*line) for line in lines))
    bpf = _Program(len(lines), instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(bpf)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
