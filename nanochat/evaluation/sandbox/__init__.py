"""A place to run a program that a model wrote, where it can do no harm and cannot pass its tests by a trick.

Two processes run inside, in Linux namespaces of their own: the *program*, and the *judge*, which runs the tests. The
judge asks the program's function over a pipe, and gets back plain data. So the program cannot touch the tests: what
it patches, prints, raises at exit or exits with is its own affair, and it has never seen the tests' text. The verdict
is written by the judge, to a pipe that the program does not have.

What protects the machine, each enough for most of it: no network (a network namespace without any interface); a file
system that holds Python's own files, read-only, and an empty folder in memory, and nothing else; no other process to be
seen (a process namespace, which dies as a whole with the judge); limits on time, memory, files and output; no
privileges; and a filter of system calls (seccomp), by which whoever starts a process, opens a socket or sends a signal
dies. Besides, Python's audit events name what the program attempted; they protect from nothing.

What remains possible: a program that knows its tests by heart passes them, as does one that recognises them by their
arguments. Data of other kinds than Python's plain ones (numbers, texts, lists, tuples, sets, dicts, bytes, None) is
unlike anything that a test compares it with. The kernel is shared: a hole in it would be a hole here.
"""
