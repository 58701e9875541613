"""Is the distribution of a generator's images invariant under a group? A two-sample permutation test.

Images are compared with other images of the same generator, each moved by a random element of the group. The two
samples have the same distribution if and only if the generator's is invariant.
"""

from __future__ import annotations

import torch

from ..common.noise import draw_noise
from ..common.randomness import random_generator
from ..common.symmetry import GroupAction
from ..networks import Generator

PERMUTATIONS = 999
#: images that are generated at a time
BATCH_SIZE = 250


def energy_test(one: torch.Tensor, other: torch.Tensor, random: torch.Generator) -> float:
    """P-value of the two-sample test by energy distance with 999 permutations (Szekely & Rizzo 2013).

    Args:
        one, other: samples ``[N, F]`` of two distributions; the p-value is uniform on 1/1000 ... 1 if
            they are equal, and tends to 1/1000 with N if they are not.
        random: draws the permutations.
    """
    both = torch.cat([one, other]).double()
    distances = torch.cdist(both, both)
    signs = torch.ones(len(both), dtype=torch.float64)
    signs[len(one) :] = -1
    shuffled = [signs[torch.randperm(len(both), generator=random)] for _ in range(PERMUTATIONS)]
    sides = torch.stack([signs, *shuffled])
    statistics = -(sides @ distances * sides).sum(1)  # N^2 (2 E|X - Y| - E|X - X'| - E|Y - Y'|)
    # Splits that differ only in which side is called which are equal up to rounding.
    return (statistics >= statistics[0] - 1e-12 * distances.sum()).double().mean().item()


@torch.no_grad()
def invariance_test(network: Generator, group: str, *, samples: int, seed: int) -> float:
    """P-value of the test that the distribution of a generator's images, all classes equally often, is invariant.

    Args:
        network: in evaluation mode, on the CPU.
        group: on the grid.
        samples: images on each side, at least 2.
        seed: of the noise, the elements and the permutations.
    """
    if samples < 2:
        raise ValueError(f"samples: expected at least 2, got {samples}")
    action = GroupAction(group, network.image_shape[1])
    labels = torch.arange(samples) % network.embedding.num_embeddings

    def images(side: str) -> torch.Tensor:
        noise = draw_noise(network, samples, random_generator(seed, f"invariance, {side}"))
        parts = [(labels[part], *noise.part(part, "cpu")) for part in torch.arange(samples).split(BATCH_SIZE)]
        return torch.cat([network(z, some, elements=elements) for some, z, elements in parts])

    random = random_generator(seed, "invariance")
    moved = action(images("moved"), torch.randint(action.point_group.order, (samples,), generator=random))
    return energy_test(images("still").flatten(1), moved.flatten(1), random)
