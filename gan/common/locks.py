"""One process at a time in a folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger("gan")


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Holds the lock ``name`` in ``folder``, which is made; waits while another process holds it, and says so.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f".{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning("%s: another process is at work on %s; waiting for it", folder, name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def try_lock(file: Path) -> FileLock | None:
    """A held lock to release later, or None if another process holds it. Raises OSError if it cannot be written."""
    lock = FileLock(file)
    try:
        return lock.acquire(timeout=0).lock
    except Timeout:
        return None
