"""Every example runs as its docstring says, in less than a minute of two cores."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# Of those that read a file, or would train for longer than it takes to see that they run.
ARGUMENTS = {
    "convert_resnet.py": ["--epochs", "1"],
    "segment_nuclei.py": ["--image", str(ROOT / "tests" / "data" / "ihc.jpg"), "--steps", "20", "--width", "8"],
    "train_gan.py": ["--iterations", "60"],
}


def processor_seconds() -> float:
    """Of the child processes that have ended. Unlike the clock's time it hardly depends on what else runs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(example, tmp_path):
    # On a busy machine several threads wait for each other, which counts as their time.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    before = processor_seconds()
    done = subprocess.run(
        [sys.executable, str(example), *ARGUMENTS.get(example.name, [])],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip(), "it says nothing"
    assert processor_seconds() - before < 2 * 60


def test_every_example_is_described():
    page = (ROOT / "examples" / "README.md").read_text("utf-8")
    assert [path.name for path in EXAMPLES if f"({path.name})" not in page] == []
    assert set(ARGUMENTS) <= {path.name for path in EXAMPLES}
