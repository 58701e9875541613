"""Test whether a generator's law is invariant: ``python -m gan.invariance --run DIR``.

Images are compared with other images of the same generator, each moved by a random element of its group. Both have one
law exactly if the generator's is invariant, as that of ``--generator-symmetry full`` is and others' need not be.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

import gcnn_kernels as gk

from .files import print_any_name
from .networks import Generator
from .noise import draw_noise
from .runs import load_generator
from .symmetry import GroupAction
from .training.randomness import generator as random_generator
from .training.run_folder import RunError

PERMUTATIONS = 999
#: images that are generated at a time
BATCH_SIZE = 250
#: below this p-value the command calls the law not invariant
LEVEL = 0.01


def energy_test(one: torch.Tensor, other: torch.Tensor, random: torch.Generator) -> float:
    """P-value of the two-sample test by energy distance with 999 permutations (Szekely & Rizzo 2013).

    Args:
        one, other: samples ``[N, F]`` of two laws; the p-value is uniform on 1/1000 ... 1 if they are
            equal, and tends to 1/1000 with N if they are not.
        random: draws the permutations.
    """
    both = torch.cat([one, other]).double()
    distances = torch.cdist(both, both)
    signs = torch.ones(len(both), dtype=torch.float64)
    signs[len(one) :] = -1
    shuffled = [signs[torch.randperm(len(both), generator=random)] for _ in range(PERMUTATIONS)]
    sides = torch.stack([signs, *shuffled])
    statistics = -(sides @ distances * sides).sum(1)  # N^2 (2 E|X - Y| - E|X - X'| - E|Y - Y'|)
    # Partings that differ by the names of the sides only are equal up to rounding.
    return (statistics >= statistics[0] - 1e-12 * distances.sum()).double().mean().item()


@torch.no_grad()
def law_test(network: Generator, group: str, *, samples: int, seed: int) -> float:
    """P-value of the test that the law of a generator's images, every class as often, is invariant.

    Args:
        network: in evaluation mode, on the CPU.
        group: on the grid.
        samples: images on each side.
        seed: of the noise, the elements and the permutations.
    """
    action = GroupAction(group, network.image_shape[1])
    labels = torch.arange(samples) % network.embedding.num_embeddings

    def images(side: str) -> torch.Tensor:
        noise = draw_noise(network, samples, random_generator(seed, f"invariance, {side}"))
        parts = [(labels[part], *noise.part(part, "cpu")) for part in torch.arange(samples).split(BATCH_SIZE)]
        return torch.cat([network(z, some, elements=elements) for some, z, elements in parts])

    random = random_generator(seed, "invariance")
    moved = action(images("moved"), torch.randint(action.point_group.order, (samples,), generator=random))
    return energy_test(images("still").flatten(1), moved.flatten(1), random)


def main(arguments: list[str] | None = None) -> int:
    print_any_name()
    parser = argparse.ArgumentParser(
        prog="python -m gan.invariance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--checkpoint", default="best", choices=("best", "latest"), help="(%(default)s)")
    parser.add_argument(
        "--group", choices=("p4", "p4m"), help="the generator's, as far as it permutes the pixels (p4 of p1)"
    )
    parser.add_argument("--samples", type=int, default=1000, help="images on each side (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (%(default)s)")
    given = parser.parse_args(arguments)
    if given.samples < 2:
        parser.error(f"--samples: expected at least 2, got {given.samples}")
    try:
        trained = load_generator(given.run, given.checkpoint)
        if not isinstance(trained.network, Generator):
            raise ValueError(f"run: {given.run} translates images, it has no law of its own")
        group = given.group or gk.point_group(trained.network.group).grid_subgroup.name
        group = "p4" if group == "p1" else group
        p = law_test(trained.network, group, samples=given.samples, seed=given.seed)
    except (RunError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    verdict = "is not invariant" if p < LEVEL else "may be invariant"
    symmetry = trained.network.symmetry
    print(f"{symmetry} {trained.network.group} generator: its law {verdict} under {group}: p = {p:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
