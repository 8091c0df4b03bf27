"""A sandbox for programs that a model wrote, where they can do no harm and cannot pass their tests by a trick.

Two processes run in Linux namespaces of their own: the *program process* and the *test process*. The test process runs
the tests. For each call of the program's function it sends a message over a pipe and receives plain data. So the
program cannot change the tests: patched builtins, printed text, exit statuses and code that runs at exit stay in its
own process, and it never sees the tests' source. The test process writes the verdict to a pipe that the program process
does not have.

The machine is protected by several layers, most of which would suffice alone: no network (a network namespace without
any interface); a file system with Python's own files, read-only, and an empty folder in memory; no other visible
process (a process namespace, all of which is killed when the test process ends); limits on time, memory, files and
output; no privileges; and a system call filter (seccomp) that kills a process which starts another one, opens a socket
or sends a signal. In addition, Python's audit events name what the program attempted; they are for the report, not for
protection.

Remaining limits: a program that memorised its tests passes them, as does one that recognises them by their arguments.
Return values other than plain data (numbers, strings, lists, tuples, sets, dicts, bytes, None) compare unequal to
everything. The kernel is shared: a vulnerability in it is one of the sandbox.
"""
