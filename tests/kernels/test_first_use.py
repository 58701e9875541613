"""What a process does first leaves nothing behind that a later use would stumble over: see first_use.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from first_use import CASES

SCRIPT = Path(__file__).with_name("first_use.py")


def test_first_use():
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1"}
    process = subprocess.run([sys.executable, SCRIPT], env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert len(lines) == len(CASES)
    assert [line for line in lines if not line.endswith(": passed")] == [], process.stderr
