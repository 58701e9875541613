"""What a run says that it will cost."""

from __future__ import annotations

import pytest
import torch
from gan_steps import prepared, random_images
from torch.utils._python_dispatch import TorchDispatchMode

from gan.commands import train as command
from gan.options import resolve
from gan.training import estimate, loop
from gan.training.estimate import operations

DIGITS = {"dataset": "digits", "generator_group": "p1", "discriminator_group": "p1", "batch_size": 6}


def by_hand(r1=True, r2=False):
    """Of a plain generator update and of a discriminator update, from the table of digits' networks."""
    # Multiply-adds per image of each layer: the planes' pixels times the filter's numbers.
    generator = 64 * 64 * 16 + 16 * 9 * 64 * 128 + 64 * 9 * 128 * 64 + 256 * 9 * 64 * 32 + 256 * 9 * 32
    generator += 2 * 64 * (64 + 32)  # scale and shift of two norms, from the condition
    first, others = 256 * 9 * 32, 64 * 9 * 32 * 64 + 16 * 9 * 64 * 128
    discriminator = first + others
    return generator, first, discriminator


def counted(**given):
    return operations(resolve({**DIGITS, **given})) / (2 * 6)


def test_operations_by_hand():
    """Forward passes cost once the multiply-adds, weights' and inputs' gradients as much each."""
    generator, first, discriminator = by_hand()
    plain = counted(r1=0.0, d_updates=1, loss="nsgan")
    # The generator: both forward; through the discriminator to its images; its own, without the noise's gradient.
    # The discriminator: images, both logits, both backward without the images' gradient.
    expected = 2 * discriminator + 3 * generator + generator + 2 * (3 * discriminator - first)
    assert plain == pytest.approx(expected, rel=0.03)
    # A penalty: inputs' gradients once more, and both gradients of that and of the forward pass.
    penalised = counted(r1=1.0, d_updates=1, loss="nsgan")
    assert 2 * discriminator < penalised - plain < 5 * discriminator
    both = counted(r1=1.0, r2=1.0, d_updates=1, loss="nsgan")
    assert both - penalised == pytest.approx(penalised - plain, rel=1e-9)


def test_lazy_penalties_and_several_updates_count_by_their_share():
    one, plain = counted(r1=1.0, d_updates=1), counted(r1=0.0, d_updates=1)
    assert counted(r1=1.0, r1_every=4, d_updates=1) == pytest.approx(plain + (one - plain) / 4, rel=1e-9)
    two = counted(r1=1.0, d_updates=2)
    assert 1.3 < two / one < 2


@pytest.mark.parametrize(
    "given",
    [
        {"generator_group": "p4", "discriminator_group": "c8", "loss": "rpgan", "r2": 1.0, "augment": "diffaugment"},
        {"generator_symmetry": "full", "augment": "bcr", "amp": "bf16", "accumulate": 2, "compile": True},
    ],
)
def test_what_is_counted_is_what_is_computed(given):
    """The same counter around a real iteration."""
    options = resolve({**DIGITS, "dataset": "folder", "preset": "digits", **given})
    found = operations(options)
    training, _ = prepared(
        resolve(
            {
                **DIGITS,
                "dataset": "folder",
                "preset": "digits",
                **given,
                "compile": False,
                "amp": "off",
                "accumulate": 1,
            }
        ),
        random_images(options),
        loop.ALONE_ON_CPU,
    )
    with estimate._Counter() as counter:
        training.iterate()
    assert found == counter.total


def test_nothing_is_computed_and_no_random_number_drawn():
    class Real(TorchDispatchMode):
        big = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if type(result) is torch.Tensor:
                self.big = max(self.big, result.numel())
            return result

    options = resolve({"dataset": "digits", "batch_size": 4096})
    with Real() as seen:
        operations(options)
    assert seen.big < 100_000  # constant tables; one plane of a batch has 4,096 * 256 pixels
    state = torch.get_rng_state()
    operations(options)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_says_what_it_will_take(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loop, "write_curves", lambda *arguments, **options: None)
    arguments = ["--dataset", "digits", "--width", "0.1", "--batch-size", "8", "--device", "cpu", "--eval-every", "0"]
    assert command.main([*arguments, "--iterations", "9", "--outdir", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "an iteration takes " in out and " GFLOP over all processes" in out
    (line,) = (line for line in out.splitlines() if "estimate: " in line)
    assert "0:00:0" in line and " for 4 iterations of 0." in line and "GFLOP/s; " in line and "GiB so far" in line
    assert out.index("estimate: ") < out.index("iteration 9/9")


def test_evaluations_are_in_the_estimate(monkeypatch):
    options = resolve({**DIGITS, "dataset": "folder", "preset": "digits", "iterations": 100, "eval_every": 30})
    training, _ = prepared(options, random_images(options), loop.ALONE_ON_CPU)
    lines = []
    monkeypatch.setattr(training, "log", lines.append)
    training.evaluation, training.evaluation_seconds, training.iteration = object(), 100.0, 30
    training._estimate(2.0)
    assert lines[0].startswith("estimate: 0:07:20 for 70 iterations of 2 s and 3 evaluations of 100 s; ")
