"""Why is my network not equivariant? ``check_equivariance`` compares f(g x) with g f(x) after every submodule."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten

from . import _checks as checks
from ._actions import actions
from ._diagnosis import reason_of_code, reason_of_module
from .groups import PointGroup, point_group

__all__ = ["EquivarianceBreak", "EquivarianceReport", "check_equivariance"]


@dataclass(frozen=True)
class EquivarianceBreak:
    """A place where what came in rotated with the images and what comes out does not.

    Attributes:
        module: the submodule's name as ``named_modules`` has it, "" for the network itself.
        kind: its class.
        error: largest |f(g x) - g f(x)| over the elements, in units of the largest |f(x)|; inf if the shapes differ.
        element: the element of the group with that error.
        place: "its output", or where in its ``forward`` the break lies.
        reason: why, where that is known, else None.
    """

    module: str
    kind: str
    error: float
    element: str
    place: str
    reason: str | None

    def __str__(self) -> str:
        name = f"{self.module!r} ({self.kind})" if self.module else f"the network itself ({self.kind})"
        text = f"{name}: {self.place} is off by {self.error:.2g} of its largest value under {self.element}"
        return f"{text}\n  why: {self.reason}" if self.reason else text


@dataclass(frozen=True)
class EquivarianceReport:
    """What :func:`check_equivariance` found. It is true where the network is equivariant, and prints as text.

    Attributes:
        group: name of the group.
        elements: the elements that were tried.
        tolerance: errors up to it count as rounding.
        error: the network's own, as in :class:`EquivarianceBreak`.
        outputs: how each output turns with the images, such as "an image" or "a vector"; invariance is "a vector".
        breaks: the places that break equivariance, the first one first; empty where the network is equivariant.
    """

    group: str
    elements: tuple[str, ...]
    tolerance: float
    error: float
    outputs: tuple[str, ...]
    breaks: tuple[EquivarianceBreak, ...]

    def __bool__(self) -> bool:
        return self.error <= self.tolerance

    @property
    def first(self) -> EquivarianceBreak | None:
        return self.breaks[0] if self.breaks else None

    def __str__(self) -> str:
        tried = f"{len(self.elements)} element{'' if len(self.elements) == 1 else 's'} of {self.group}"
        if self:
            return f"equivariant under {tried}: error {self.error:.2g}, output: {', '.join(self.outputs)}"
        lines = [f"NOT equivariant under {tried}: error {self.error:.2g}", f"first broken by {self.breaks[0]}"]
        return "\n".join(lines + [f"then by {b}" for b in self.breaks[1:]])


def check_equivariance(
    module: nn.Module, x: torch.Tensor, group: str | PointGroup = "p4", *, tolerance: float = 1e-5, perturb: bool = True
) -> EquivarianceReport:
    """Finds the submodule that first breaks equivariance, by how much, for which element, and why where that is known.

    A copy of the network runs in evaluation mode and double precision on x and on x moved by every element of the group
    that permutes the pixels. Whatever goes into and comes out of each submodule is compared with that of the unmoved x,
    moved likewise. How a tensor should move is told by its shape: see ``EquivarianceReport.outputs``.

    Args:
        module: takes x alone. It is left as it is.
        x: images ``[B, C, H, W]``, or maps on the group ``[B, C, order, H, W]``; random ones will do. Take the size
            that the network is used with: whether a stride fits depends on it.
        group: the group under which the network should be equivariant (or invariant).
        tolerance: errors up to it, in units of the largest output, count as rounding.
        perturb: gives parameters whose numbers are all equal other ones first. A bias per slot that is still zero
            breaks nothing yet. Leave it off for a network whose equal numbers have to be equal, as ``to_plain`` makes.

    Returns:
        a report, true if the network is equivariant; ``print`` it.

    Raises:
        TypeError, ValueError: for an argument that does not fit, or a network whose submodules are not called in the
            same order each time; the message names it.
    """
    point = point_group(group)
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected an nn.Module, got {type(module).__name__}")
    checks.tensor("x", x, dims=(4, 5), shape=f"[B, C, H, W] or [B, C, {point.order}, H, W]")
    if not tolerance > 0:
        raise ValueError(f"tolerance: expected a positive number, got {tolerance!r}")
    elements = [int(g) for g in point.grid_elements if g]
    if not elements:
        raise ValueError(f"group: expected one with an element that turns or mirrors the pixels, got {point.name!r}")
    if x.dim() == 5:
        checks.slots("x", x, 2, point)
    move = actions(tuple(x.shape), point, len(x))["an image" if x.dim() == 4 else f"a map on {point.name}"]

    network = copy.deepcopy(module).double().eval()
    x = x.detach().double()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        if perturb:
            _perturb(network)
        trace = _Trace(point, len(x))
        for element in [0, *elements]:
            torch.manual_seed(0)  # whatever the network draws, it draws for every element
            with trace.watching(network, element):
                network(move(x, element))
    return _report(trace, point, elements, tolerance)


def _perturb(network: nn.Module) -> None:
    """Positive numbers to all parameters and running statistics that are constant, so that they no longer are."""
    tensors = [*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())]
    for tensor in tensors:
        if tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all()):
            tensor.add_(torch.rand_like(tensor), alpha=0.5)


@dataclass
class _Seen:
    """A tensor of the unmoved run, and the largest error of each way to move it, for each element."""

    value: torch.Tensor
    errors: dict[str, dict[int, float]] = field(default_factory=dict)

    def best(self) -> tuple[str, int, float]:
        """The way that fits best, the element that it fits worst, and the error there."""
        if not self.errors:
            return "of unknown kind", 0, math.inf
        name = min(self.errors, key=lambda n: max(self.errors[n].values()))
        element, error = max(self.errors[name].items(), key=lambda item: item[1])
        return name, element, error


@dataclass
class _Event:
    """What goes into (``enters``) or comes out of a call of a submodule. ``parent`` is the call that made this one."""

    name: str
    module: nn.Module
    enters: bool
    call: int
    parent: int | None
    tensors: list[_Seen]

    def worst(self) -> tuple[str, int, float]:
        return max((seen.best() for seen in self.tensors), key=lambda b: b[2], default=("nothing", 0, 0.0))


class _Trace:
    """The events of the unmoved run, with which those of the moved runs are compared as they come."""

    def __init__(self, group: PointGroup, batch: int):
        self.group, self.batch = group, batch
        self.events: list[_Event] = []
        self.stack: list[int] = []  # the calls that go on

    @contextmanager
    def watching(self, network: nn.Module, element: int) -> Iterator[None]:
        self.element, self.position, self.calls = element, 0, 0
        self.stack.clear()
        names = {module: name for name, module in network.named_modules()}
        handles = []
        for module, name in names.items():
            handles.append(module.register_forward_pre_hook(self._before(name), with_kwargs=True))
            handles.append(module.register_forward_hook(self._after(name)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        if element and self.position != len(self.events):
            raise _other_order(self.events[self.position].name)

    def _before(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple, keywords: dict[str, Any]) -> None:
            self._record(name, module, True, self.calls, (arguments, keywords))
            self.stack.append(self.calls)
            self.calls += 1

        return hook

    def _after(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple, output: object) -> None:
            call = self.stack.pop()
            self._record(name, module, False, call, output)

        return hook

    def _record(self, name: str, module: nn.Module, enters: bool, call: int, values: object) -> None:
        leaves = tree_flatten(values)[0]
        tensors = [t.detach() for t in leaves if isinstance(t, torch.Tensor) and t.is_floating_point()]
        if self.element == 0:
            parent = self.stack[-1] if self.stack else None
            # Clones, because an activation in place would change what is kept.
            self.events.append(_Event(name, module, enters, call, parent, [_Seen(t.clone()) for t in tensors]))
            return
        if self.position == len(self.events):
            raise _other_order(name)
        event = self.events[self.position]
        if (event.name, event.enters, len(event.tensors)) != (name, enters, len(tensors)):
            raise _other_order(name)
        self.position += 1
        for seen, moved in zip(event.tensors, tensors, strict=True):
            for way, action in actions(tuple(seen.value.shape), self.group, self.batch).items():
                error = _relative_error(moved, action(seen.value, self.element))
                seen.errors.setdefault(way, {})[self.element] = error


def _other_order(name: str) -> ValueError:
    return ValueError(f"module: expected its submodules to be called in one order, but {name!r} came out of turn")


def _relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    if found.shape != expected.shape:
        return math.inf
    if found.numel() == 0:
        return 0.0
    scale = max(expected.abs().max().item(), 1e-30)
    error = (found - expected).abs().max().item() / scale
    return error if error == error else math.inf


def _report(trace: _Trace, group: PointGroup, elements: list[int], tolerance: float) -> EquivarianceReport:
    names = tuple(element_name(g, group) for g in elements)
    last = trace.events[-1]
    error = last.worst()[2]
    outputs = tuple(seen.best()[0] for seen in last.tensors)
    breaks = () if error <= tolerance else tuple(_breaks(trace.events, group, tolerance))
    return EquivarianceReport(group.name, names, tolerance, error, outputs, breaks)


def _breaks(events: list[_Event], group: PointGroup, tolerance: float) -> Iterator[EquivarianceBreak]:
    """The first break, and the later ones in modules whose input is still good."""
    broken = [event.worst()[2] > tolerance for event in events]
    entered = {event.call: index for index, event in enumerate(events) if event.enters}
    first = broken.index(True)
    for index in range(first, len(events)):
        event = events[index]
        if not broken[index]:
            continue
        if index == first and event.enters:
            yield _break_in_code(events, entered, index, group)
        elif not event.enters and not broken[entered[event.call]]:
            inside = any(broken[entered[event.call] + 1 : index])
            if not inside:
                yield _break_in_module(events, entered[event.call], index, group)


def _break_in_module(events: list[_Event], start: int, index: int, group: PointGroup) -> EquivarianceBreak:
    event = events[index]
    _, element, error = event.worst()
    children = [e for e in events[start + 1 : index] if e.parent == event.call and not e.enters]
    entering = events[start].tensors[0].value if events[start].tensors else None
    leaving = event.tensors[0].value
    place, reason = "its output", reason_of_module(event.module, entering, leaving, group)
    if children:
        place = f"its output, by the code of its forward after {children[-1].name!r},"
        reason = reason_of_code(event.module, leaving, group)
    return EquivarianceBreak(
        event.name, type(event.module).__name__, error, element_name(element, group), place, reason
    )


def _break_in_code(events: list[_Event], entered: dict[int, int], index: int, group: PointGroup) -> EquivarianceBreak:
    """The input of a submodule is broken though nothing before it is: the code that calls it did that."""
    event = events[index]
    if event.parent is None:
        raise ValueError(
            f"x: expected images that turn under {group.name!r}, got {tuple(event.tensors[0].value.shape)}"
        )
    caller = events[entered[event.parent]]
    before = [e.name for e in events[:index] if e.parent == event.parent and not e.enters]
    between = f"between {before[-1]!r} and {event.name!r}" if before else f"before {event.name!r}"
    _, element, error = event.worst()
    worst = max(event.tensors, key=lambda seen: seen.best()[2])
    return EquivarianceBreak(
        caller.name, type(caller.module).__name__, error, element_name(element, group),
        f"what its forward computes {between}", reason_of_code(caller.module, worst.value, group),
    )  # fmt: skip


def element_name(element: int, group: PointGroup) -> str:
    """Such as "a turn by 90 degrees", "a flip of the rows"."""
    m, r = divmod(element, group.rotations)
    turn = f"a turn by {360 * r // group.rotations} degrees" if r else ""
    return " and ".join(part for part in (turn, "a flip of the rows" if m else "") if part) or "no motion"
