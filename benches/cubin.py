"""What NVIDIA's cuobjdump and nvdisasm tell of compiled GPU code; no GPU is needed."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """What one thread of a kernel takes."""

    registers: int
    spilled: int  # bytes of stack and local memory


def cuobjdump(nvcc: Path | None = None) -> Path | None:
    """The cuobjdump beside an nvcc, else the one that Triton brings, else None."""
    folders = [] if nvcc is None else [nvcc.parent, nvcc.resolve().parent]
    triton = importlib.util.find_spec("triton")
    if triton is not None:
        folders.append(Path(triton.origin).parent / "backends/nvidia/bin")
    return next((program for folder in folders if (program := folder / "cuobjdump").exists()), None)


def architectures(binary: Path, program: Path) -> set[str]:
    """The generations that a shared library holds code for: "sm_90", ..."""
    return set(re.findall(r"\bsm_\d+", _run(program, "--list-elf", binary)))


def usage(cubin: bytes, program: Path) -> Usage:
    """What the one kernel of a cubin takes."""
    text = _run_on(cubin, program, "-res-usage")
    registers, stack, local = (int(re.search(rf"{what}:(\d+)", text)[1]) for what in ("REG", "STACK", "LOCAL"))
    return Usage(registers, stack + local)


def disassembly(cubin: bytes) -> str:
    """The instructions of a cubin, with a line for each and one for each label, by the nvdisasm that Triton brings."""
    return _run_on(cubin, cuobjdump().with_name("nvdisasm"), "-c")


def _run_on(cubin, *command):
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return _run(*command, file.name)


def _run(*command) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
