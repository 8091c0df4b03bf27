"""The filter of system calls (seccomp): what no program that computes something needs ends it at once.

Most of it would be harmless in the namespaces anyway. But it makes them hard to break out of, and a process that
cannot start another one is no fork bomb. The numbers are those of the kernel's tables, for each kind of processor.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import NamedTuple

# name: (x86-64, aarch64); -1 where there is no such call
KILLED = {
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
    "memfd_create": (319, 279),  # memory outside of the process's own, which its limit does not count; so are these
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
}
TO_ITSELF = {"kill": (62, 129), "tgkill": (234, 131)}  # signals: only to the process that sends them (abort does so)
CLONE, CLONE3 = (56, 220), (435, 435)
PRLIMIT = (302, 261)  # reads everybody's limits, sets its own: as signals

CLONE_THREAD = 0x10000
ENOSYS = 38
# linux/bpf_common.h, linux/seccomp.h, linux/audit.h
LOAD, JUMP_EQUAL, JUMP_BITS, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER, PROCESSOR, ARGUMENT = 0, 4, 16  # places in struct seccomp_data
X32 = 0x40000000  # the bit of x86-64's calls with other numbers
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2


class Machine(NamedTuple):
    """A kind of processor: its column in the tables, and its number in the filter's data."""

    column: int
    audit: int


MACHINES = {"x86_64": Machine(0, 0xC000003E), "aarch64": Machine(1, 0xC00000B7)}


def machine() -> Machine | None:
    """This machine's; None if there are no tables for it, or the interpreter is a 32-bit one."""
    return MACHINES.get(platform.machine()) if struct.calcsize("P") == 8 else None


def program(kind: Machine, pid: int) -> list[tuple[int, int, int, int]]:
    """The filter's instructions: (code, jump if true, jump if false, constant).

    Args:
        kind: of processor.
        pid: of the process, which may send signals to itself.
    """

    def end(what: int) -> tuple[int, int, int, int]:
        return (RETURN, 0, 0, what)

    lines = [
        (LOAD, 0, 0, PROCESSOR),
        (JUMP_EQUAL, 1, 0, kind.audit),
        end(KILL),
        (LOAD, 0, 0, NUMBER),
        (JUMP_BITS, 0, 1, X32),
        end(KILL),
    ]
    for numbers in KILLED.values():
        if numbers[kind.column] >= 0:
            lines += [(JUMP_EQUAL, 0, 1, numbers[kind.column]), end(KILL)]
    # glibc takes clone where clone3 does not exist, and clone's first argument says whether it is a thread
    lines += [(JUMP_EQUAL, 0, 1, CLONE3[kind.column]), end(ERRNO | ENOSYS)]
    lines += [
        (JUMP_EQUAL, 0, 4, CLONE[kind.column]),
        (LOAD, 0, 0, ARGUMENT),
        (JUMP_BITS, 0, 1, CLONE_THREAD),
        end(ALLOW),
        end(KILL),
    ]
    for numbers in (*TO_ITSELF.values(), PRLIMIT):
        own = [(JUMP_EQUAL, 0, 1, pid), end(ALLOW)]
        if numbers == PRLIMIT:
            own += [(JUMP_EQUAL, 0, 1, 0), end(ALLOW)]  # 0 is the process itself
        lines += [(JUMP_EQUAL, 0, len(own) + 2, numbers[kind.column]), (LOAD, 0, 0, ARGUMENT), *own, end(KILL)]
    return [*lines, end(ALLOW)]


class _Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("true", ctypes.c_uint8), ("false", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction))]


def filter_calls() -> None:
    """Puts this process under the filter, for good.

    Raises:
        OSError: if the kernel refuses.
    """
    kind = machine()
    assert kind is not None, "asked for before"
    lines = program(kind, os.getpid())
    instructions = (_Instruction * len(lines))(*(_Instruction(*line) for line in lines))
    whole = _Program(len(lines), instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(whole)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
