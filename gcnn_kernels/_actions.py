"""How an element g of a point group moves images and maps: (g x)(p) = x(g^-1 p), (g x)(h, p) = x(g^-1 h, g^-1 p).

Only for elements that permute the pixels (``PointGroup.grid_elements``), so that no value is interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from .groups import PointGroup, point_group


def move_planes(x: torch.Tensor, element: int, group: PointGroup) -> torch.Tensor:
    """Turns and mirrors the last two dimensions."""
    m, r = divmod(element, group.rotations)
    rotated = torch.rot90(x, 4 * r // group.rotations, (-2, -1))
    return rotated.flip(-2) if m else rotated


def move_slots(x: torch.Tensor, element: int, group: PointGroup, dim: int) -> torch.Tensor:
    """Permutes the group axis, which is dimension ``dim``."""
    return x.index_select(dim, torch.from_numpy(group.quotient[element]).to(x.device))


def move_map(x: torch.Tensor, element: int, group: PointGroup) -> torch.Tensor:
    """Moves a feature map on the group ``[B, C, order, H, W]``."""
    return move_slots(move_planes(x, element, group), element, group, 2)


Action = Callable[[torch.Tensor, int], torch.Tensor]


def actions(shape: tuple[int, ...], group: PointGroup, batch: int) -> dict[str, Action]:
    """The ways in which a tensor of that shape can turn with the images, by name.

    Args:
        shape: of an activation somewhere in a network.
        group: whose elements are given to the actions.
        batch: number of images; maps may lie in the batch dimension slot by slot.
    """
    found: dict[str, Action] = {}
    rank, order = len(shape), group.order
    if rank < 2:
        found["a number"] = lambda x, g: x
    if rank == 2:
        found["a vector"] = lambda x, g: x
        if shape[1] % order == 0:
            found["a vector on the group"] = lambda x, g: _unflattened(
                x, 1, order, lambda y: move_slots(y, g, group, 2)
            )
    if rank == 3:
        found["tokens without positions"] = lambda x, g: x
        if shape[2] == order:
            found["a vector on the group"] = lambda x, g: move_slots(x, g, group, 2)
    if rank in (3, 4) and (side := math.isqrt(shape[1])) ** 2 == shape[1]:
        found |= _token_actions(shape, group, side)
    if rank == 4:
        found["an image"] = lambda x, g: move_planes(x, g, group)
        if shape[1] % order == 0:
            found["a flattened map"] = lambda x, g: _unflattened(x, 1, order, lambda y: move_map(y, g, group))
        if order > 1 and shape[0] == batch * order:
            found["a map with its slots in the batch"] = lambda x, g: _unflattened(
                move_planes(x, g, group), 0, order, lambda y: move_slots(y, g, group, 1)
            )
    if rank == 5:
        for over in _groups_of_order(shape[2], group):
            found[f"a map on {over.name}"] = _map_action(over, group)
    return found


def _token_actions(shape, group, side):
    """Pixels as the tokens of a sequence: ``[B, N, C]``, or ``[B, N, C, order]``."""

    def planes(x, g):
        return move_planes(x.unflatten(1, (side, side)).movedim((1, 2), (-2, -1)), g, group)

    def tokens(y):
        return y.movedim((-2, -1), (1, 2)).flatten(1, 2)

    if len(shape) == 3:
        return {"tokens": lambda x, g: tokens(planes(x, g))}
    if shape[3] == group.order:
        return {"tokens on the group": lambda x, g: tokens(move_slots(planes(x, g), g, group, 2))}
    return {}


def _map_action(over: PointGroup, group: PointGroup) -> Action:
    """How the elements of a group move maps on a group that contains it."""
    elements = over.embedding(group)
    return lambda x, g: move_map(x, int(elements[g]), over)


def _unflattened(x, dim, order, action):
    return action(x.unflatten(dim, (-1, order))).flatten(dim, dim + 1)


def _groups_of_order(order, subgroup):
    names = [f"c{order}"] + ([f"d{order // 2}"] if order % 2 == 0 else [])
    return [g for g in map(point_group, names) if g.contains(subgroup)] if 1 <= order <= 99 else []
