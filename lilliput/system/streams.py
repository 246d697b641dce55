"""What a command speaks to: streams that may be closed, or lack letters."""

import io
import os
import sys
from contextlib import suppress


def keep_speaking() -> None:
    """What is said last must not cost what was done before: letters that the terminal lacks are written out, and what
    the caller has closed swallows what is said."""
    for number in range(3):  # in this order: the system gives the lowest that is free, and no file of ours may get it
        with suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDWR)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_no_more() -> None:
    """For when the reader has gone: nothing is tried again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
