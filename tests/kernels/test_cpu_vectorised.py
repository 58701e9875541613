"""The loops of norm, pools and cosets are vectorised for every instruction set, by the compiler's own report."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from torch.utils import cpp_extension

ROOT = Path(__file__).resolve().parents[2]
COMPILER = shutil.which("g++")
ALL = (16, 32, 64)  # bytes of a vector: portable, AVX2, AVX-512
SOURCES = {"norm": ALL, "pool": ALL, "spatial_pool": (16, 32), "cosets": ALL}


def compile_flags() -> list[str]:
    """Those that setup.py compiles the CPU kernels with."""
    return ast.literal_eval(re.search(r"^CPU_FLAGS = (\[.*\])$", (ROOT / "setup.py").read_text(), re.M)[1])


def simd_loops(text: str) -> list[int]:
    """The lines of the loops below ``#pragma omp simd``."""
    return [n + 2 for n, line in enumerate(text.splitlines()) if line.strip() == "#pragma omp simd"]


@pytest.mark.skipif(COMPILER is None, reason="GCC (g++) was not found, whose report this reads")
@pytest.mark.parametrize(("name", "widths"), SOURCES.items(), ids=SOURCES)
def test_every_marked_loop_is_vectorised(tmp_path, name, widths):
    source = ROOT / "csrc" / "cpu" / f"{name}.cpp"
    command = [
        COMPILER, "-std=c++20", "-fPIC", *compile_flags(), "-DTORCH_TARGET_VERSION=0x020a000000000000",
        f"-I{ROOT / 'csrc'}", *(f"-I{path}" for path in cpp_extension.include_paths()),
        "-fopt-info-vec-optimized-missed", "-c", str(source), "-o", str(tmp_path / "object.o"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    remarks = re.findall(rf"{name}\.cpp:(\d+):\d+: (.*)", done.stderr)
    loops = simd_loops(source.read_text())
    assert loops
    for loop in loops:
        # GCC speaks of the loop by the line of its head or of its first statement.
        said = [remark for line, remark in remarks if int(line) in (loop, loop + 1)]
        for width in widths:
            assert f"optimized: loop vectorized using {width} byte vectors" in said, (source.name, loop, width, said)
        scalar = [remark for remark in said if "control flow in loop" in remark]
        assert not scalar, f"{source.name}:{loop}: {len(scalar)} instances are scalar: {scalar[0]}"
