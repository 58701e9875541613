"""Writing files so that nothing is lost: a new file appears complete or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a temporary file beside ``path``, flush it to the disk, rename it. On OSError ``path`` is what it was."""
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
