"""docs/api.md is what docs/make_api.py writes, and names all that is public."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import gcnn_kernels as gk

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def make_api():
    spec = importlib.util.spec_from_file_location("make_api", DOCS / "make_api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page() -> str:
    return (DOCS / "api.md").read_text("utf-8")


def test_page_is_up_to_date(make_api, page):
    assert make_api.page() == page, "run `python docs/make_api.py`"


def test_every_public_name_has_an_entry(page):
    headings = set(re.findall(r"^#+ (\S+)$", page, re.MULTILINE))
    names = {name for name in gk.__all__ if name != "nn"} | {f"nn.{name}" for name in gk.nn.__all__}
    assert names <= headings
    assert {"gcnn_kernels.interop", "gcnn_kernels.check", "gcnn_kernels.groups", "PointGroup"} <= headings


def test_links_within_the_page_lead_somewhere(page):
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    anchors = [re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in headings]
    assert len(set(anchors)) == len(anchors)
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= set(anchors)
