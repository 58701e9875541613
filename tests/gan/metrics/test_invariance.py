"""The two-sample test of the distribution of a generator's images."""

from __future__ import annotations

import pytest
import torch

from gan.commands import invariance
from gan.commands.train import main as train
from gan.metrics.invariance import energy_test, invariance_test
from gan.networks import build_generator


def test_p_values_are_uniform_under_equality_and_small_otherwise():
    random = torch.Generator().manual_seed(0)
    draw = lambda: torch.randn(60, 5, generator=random)  # noqa: E731
    equal = torch.tensor([energy_test(draw(), draw(), random) for _ in range(100)])
    assert 0.02 <= (equal <= 0.1).double().mean() <= 0.2 and 0.4 < equal.mean() < 0.6
    assert energy_test(draw(), draw() + 1, random) == 0.001
    assert energy_test(draw(), draw() * 3, random) == 0.001  # of equal means


def test_the_statistic_is_the_energy_distance():
    """Four points can be parted in three ways; the p-value is the share of those of no less energy."""
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0], [4.0, 9.0]], dtype=torch.float64)
    mean = lambda one, other: torch.cdist(one, other).mean()  # noqa: E731
    parts = [(points[[0, i]], points[[j for j in (1, 2, 3) if j != i]]) for i in (1, 2, 3)]
    energies = torch.stack([2 * mean(x, y) - mean(x, x) - mean(y, y) for x, y in parts])
    assert len(energies.unique()) == 3
    for part, energy in zip(parts, energies, strict=True):
        p = energy_test(*part, torch.Generator().manual_seed(0))
        assert p == pytest.approx((energies >= energy).double().mean().item(), abs=0.05)


@pytest.mark.parametrize(
    ("group", "symmetry", "under", "invariant"),
    [
        ("p4", "full", "p4", True),
        ("p4m", "full", "p4m", True),
        ("c8", "full", "p4", True),
        ("p4", "incomplete", "p4", False),
        ("p1", "incomplete", "p4", False),
    ],
)
def test_distribution_of_generators(group, symmetry, under, invariant):
    torch.manual_seed(0)
    network = build_generator("digits", group, width=0.2, symmetry=symmetry).eval()
    with torch.no_grad():
        network.projection.bias.normal_().mul_(3)  # zero at the start, where the projected noise is almost isotropic
    p = invariance_test(network, under, samples=200, seed=0)
    assert (p > 0.05) if invariant else (p < 0.01)


def test_command(tmp_path, capsys, monkeypatch):
    options = ["--width", "0.1", "--batch-size", "8", "--iterations", "1", "--eval-every", "0", "--device", "cpu"]
    assert train([*options, "--generator-symmetry", "full", "--outdir", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert invariance.main(["--run", str(tmp_path / "run"), "--samples", "40", "--group", "p4"]) == 0
    assert "full p4 generator: its distribution may be invariant under p4: p = " in capsys.readouterr().out
    assert invariance.main(["--run", str(tmp_path / "nowhere")]) == 1
    assert "nowhere holds no run" in capsys.readouterr().err
