"""The README's code runs, and its two ways of writing a layer agree."""

import re
from pathlib import Path

import torch
import torch.nn.functional as F

import gcnn_kernels as gk

README = Path(__file__).parents[2] / "README.md"


def test_python_blocks():
    before, after, network = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    torch.manual_seed(0)
    names = {"torch": torch, "F": F, "gk": gk, "x": torch.randn(2, 3, 4, 9, 9), "weight": torch.randn(5, 3, 4, 3, 3)}
    exec(before, names)
    y = names.pop("y")
    exec(after, names)
    torch.testing.assert_close(names["y"], y, rtol=1e-4, atol=1e-4)
    exec(network, names)  # checks itself


def test_links_lead_to_files():
    for page in (README, *README.parent.glob("*/README.md"), *README.parent.glob("docs/*.md")):
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page}: {link}"
