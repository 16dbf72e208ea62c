"""
Run a Python program with a wall clock that is set back and forth, by hours, four times a second.

``python jumping.py PROGRAM ARGUMENT...``; the monotonic clock goes on as it should.
"""

import runpy
import sys
import time

HOURS = 5 * 3600.0

_real = time.time


def _jumping() -> float:
    return _real() + (HOURS if int(time.monotonic() * 4) % 2 else -HOURS)


if __name__ == "__main__":
    time.time = _jumping
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
