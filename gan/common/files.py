"""Files: a new one appears complete or not at all, and text is UTF-8 whatever the locale."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

#: how text files are opened; names of images and classes in them need be no text in any encoding
TEXT = {"encoding": "utf-8", "errors": "surrogateescape"}


def print_any_name() -> None:
    """From here on the output shows what the terminal's encoding lacks as an escape, where it would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def read_json(path: Path):
    """The value that a file holds. Raises OSError, or ValueError if it holds no JSON."""
    return json.loads(path.read_text(**TEXT))


def write_atomically(path: Path, content: bytes) -> None:
    """Write a temporary file next to it, flush it to the disk, rename it. On OSError ``path`` is what it was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value) -> None:
    """As :func:`write_atomically`, with the value as indented JSON."""
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode())
