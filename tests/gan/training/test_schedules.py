"""What changes in the course of a run: values, and resumption in the middle of them."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file

from gan.commands import train as command
from gan.options import resolve
from gan.training import loop, start
from gan.training.schedules import values_at
from gan.training.state import Average

CIFAR10 = {"lr_g": 2e-4, "lr_d": 4e-4, "r1": 0.05, "r2": 0.1, "ema": 0.5 ** (1 / 9766), "burn_in": 40_000}


@pytest.mark.parametrize(
    ("iteration", "rate", "gamma", "beta2", "half_life"),
    [
        (10_000, 1 - 0.75 * 0.1464466094, 1 - 0.9 * 0.1464466094, 0.9131801948, 0.1464466094 * 9766),
        (20_000, 0.625, 0.55, 0.945, 4883),
        (40_000, 0.25, 0.1, 0.99, 9766),
        (1_000_000, 0.25, 0.1, 0.99, 9766),
    ],
)
def test_r3gans_values_along_its_cosine(iteration, rate, gamma, beta2, half_life):
    found = values_at(resolve({**CIFAR10, "schedule": "r3gan", "loss": "rpgan"}), iteration)
    assert found.lr_g == pytest.approx(2e-4 * rate) and found.lr_d == pytest.approx(4e-4 * rate)
    assert found.r1 == pytest.approx(0.05 * gamma) and found.r2 == pytest.approx(0.1 * gamma)
    assert found.beta2 == pytest.approx(beta2)
    assert (1 - found.share) ** half_life == pytest.approx(0.5)


def test_r3gans_values_at_the_start_and_without_an_average():
    options = resolve({**CIFAR10, "schedule": "r3gan", "loss": "rpgan"})
    assert values_at(options, 0) == (2e-4, 4e-4, 0.9, 0.05, 0.1, 1.0)
    assert values_at(resolve({"ema": 0.0, "schedule": "r3gan"}), 77).share == 1.0


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_constant_values_and_the_average_of_all_weights_so_far(decay):
    options = resolve({"ema": decay, "r2": 0.3})
    network, source = torch.nn.Linear(1, 1, bias=False).double(), torch.nn.Linear(1, 1, bias=False).double()
    average, seen = Average(network), []
    for iteration in range(7):
        values = values_at(options, iteration)
        assert values[:5] == (options.lr_g, options.lr_d, 0.9, options.r1, 0.3)
        torch.nn.init.constant_(source.weight, (iteration + 1) ** 2)
        seen.append((iteration + 1) ** 2)
        average.update(source, values.share)
        weights = [decay ** (iteration - i) for i in range(iteration + 1)]
        expected = sum(w * s for w, s in zip(weights, seen, strict=True)) / sum(weights)
        assert network.weight.item() == pytest.approx(expected, rel=1e-12)


def run(outdir, iterations):
    return command.main([
        "--dataset", "digits", "--width", "0.1", "--batch-size", "8", "--eval-every", "0", "--checkpoint-every", "2",
        "--sample-every", "100", "--log-every", "1", "--device", "cpu", "--loss", "rpgan", "--r2", "0.5",
        "--schedule", "r3gan", "--burn-in", "5", "--outdir", str(outdir), "--iterations", str(iterations),
    ])  # fmt: skip


def test_a_run_resumes_in_the_middle_of_its_schedule(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "write_curves", lambda *arguments, **options: None)
    monkeypatch.setattr(start, "operations", lambda options: 1e9)
    seen = []
    iterate = loop.Training.iterate

    def observed(self):
        losses = iterate(self)
        groups = [self.state.optimizers[name].param_groups[0] for name in ("generator", "discriminator")]
        seen.append((self.iteration, *((group["lr"], group["betas"]) for group in groups)))
        return losses

    monkeypatch.setattr(loop.Training, "iterate", observed)
    assert run(tmp_path / "whole", 4) == 0
    assert run(tmp_path / "parts", 2) == 0 and run(tmp_path / "parts", 4) == 0
    assert seen[:4] == seen[4:]
    options = resolve({"dataset": "digits", "schedule": "r3gan", "burn_in": 5})
    for iteration, generator, discriminator in seen[:4]:
        done = (1 - math.cos(math.pi * iteration / 5)) / 2
        beta2 = pytest.approx(0.9 + 0.09 * done)
        assert generator == (pytest.approx(options.lr_g * (1 - 0.75 * done)), (0.0, beta2))
        assert discriminator == (pytest.approx(options.lr_d * (1 - 0.75 * done)), (0.0, beta2))
    whole, parts = (
        load_file(tmp_path / name / "checkpoints" / "iteration-00000004.safetensors") for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)


def test_captured_updates_cannot_follow_a_schedule():
    with pytest.raises(
        ValueError, match="cuda_graphs: captured updates keep Adam's numbers; not with --schedule r3gan"
    ):
        resolve({"cuda_graphs": True, "schedule": "r3gan"})
