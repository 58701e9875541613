"""docs/environment.md lists the environment variables that the code reads, and no other of ours."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# How Python and C++ read one: os.environ["X"], os.environ.get("X"), "X" in os.environ, std::getenv("X").
READS = (r'(?:\benviron[\w.]*[\[(]\s*|getenv\()"([A-Z][A-Z0-9_]+)"', r'"([A-Z][A-Z0-9_]+)" (?:not )?in os\.environ')
CODE = ("setup.py", "gcnn_kernels/**/*.py", "gan/**/*.py", "csrc/**/*.cpp", "csrc/**/*.h", "csrc/**/*.cu")
# Where names of ours may stand besides.
MORE = ("*.md", "*.toml", ".ci/run", "docs/**/*.md", "gan/**/*.md", "benches/**/*", "examples/**/*", "tests/**/*")
TEXT = {"", ".py", ".md", ".toml", ".h", ".cpp", ".cu", ".cuh"}


def texts(*patterns: str) -> list[str]:
    paths = {path for pattern in patterns for path in ROOT.glob(pattern) if path.suffix in TEXT and path.is_file()}
    return [path.read_text("utf-8") for path in sorted(paths)]


def listed() -> set[str]:
    page = (ROOT / "docs" / "environment.md").read_text("utf-8")
    first_cells = re.findall(r"^\|([^|]*)\|", page, re.MULTILINE)
    return set(re.findall(r"`([A-Z][A-Z0-9_]+)`", "\n".join(first_cells)))


def read() -> set[str]:
    return {name for text in texts(*CODE) for pattern in READS for name in re.findall(pattern, text)}


def macros() -> set[str]:
    """Names of the preprocessor, which begin as our variables do."""
    return set(re.findall(r"(?:#define\s+|-D)(GCNN_\w+)", "\n".join(texts(*CODE, *MORE))))


def test_every_variable_that_is_read_is_listed():
    assert {"GCNN_CUDA", "GCNN_CPU_ISA", "GCNN_TUNE_DIR", "GCNN_CACHE", "WORLD_SIZE", "LOCAL_RANK"} <= read()
    assert read() <= listed()


def test_every_name_of_ours_is_listed():
    named = {name for text in texts(*CODE, *MORE) for name in re.findall(r"\bGCNN_[A-Z0-9_]+\b", text)}
    assert named - macros() <= listed()


def test_every_listed_name_of_ours_is_read():
    assert {name for name in listed() if name.startswith("GCNN_")} <= read()
