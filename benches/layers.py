"""One convolution in the hands of each contestant, in three modes: forward, forward+backward, R1 step.

All contestants get the same numbers, each in its own memory format. A mode returns its results, so that they can be
compared before they are timed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from functools import lru_cache, partial

import torch

import gcnn_kernels as gk
from gcnn_kernels.backends import ConvProblem, choose_for_conv

from . import device, naive
from .cases import ConvCase
from .device import Precision

# Mode -> the operators that it runs; each counts as many multiplications as the others.
MODES = {
    "forward": ("conv",),
    "forward+backward": ("conv", "conv_input_grad", "conv_weight_grad"),
    "r1": ("conv", "conv_input_grad", "conv_weight_grad") * 2,
}
FORMATS = (torch.contiguous_format, torch.channels_last)


class Layer:
    """A convolution with its own tensors.

    Args:
        conv: function of (x, weight, bias).
        tensors: of :func:`draw`.
        as_map: puts a map ``[B, C, S, H, W]`` into the contestant's shape and memory format.
        skip_weights: a context for the inner gradient of R1.
    """

    def __init__(self, conv, tensors, as_map, skip_weights=contextlib.nullcontext):
        self.conv, self.skip_weights = conv, skip_weights
        self.x, self.dy, self.v, self.dgx = (as_map(tensors[name]).detach() for name in ("x", "dy", "v", "dgx"))
        self.weight = tensors["weight"].detach()
        self.bias = None if tensors["bias"] is None else tensors["bias"].detach()
        self.leaves = [t for t in (self.x, self.weight, self.bias) if t is not None]

    def run(self, mode: str) -> list[torch.Tensor]:
        return {"forward": self.forward, "forward+backward": self.forward_backward, "r1": self.r1}[mode]()

    @torch.no_grad()
    def forward(self):
        return [self.conv(self.x, self.weight, self.bias)]

    def forward_backward(self):
        """Output and the gradients of x, weight and bias for a given gradient of the output."""
        self._require_gradients()
        y = self.conv(self.x, self.weight, self.bias)
        return [y.detach(), *torch.autograd.grad(y, self.leaves, self.dy)]

    def r1(self):
        """What a layer does in a discriminator step with R1: the backward pass is itself differentiated."""
        self._require_gradients()
        y = self.conv(self.x, self.weight, self.bias)
        with self.skip_weights():
            (gx,) = torch.autograd.grad(y, self.x, self.v, create_graph=True)
        return [*torch.autograd.grad([y, gx], [*self.leaves, self.v], [self.dy, self.dgx])]

    def _require_gradients(self):
        for leaf in (*self.leaves, self.v):
            leaf.requires_grad_()


@lru_cache(maxsize=2)  # of a layer and its plain counterpart, in all modes
def draw(case: ConvCase, precision: Precision) -> dict:
    """The numbers of a case: x, weight, bias, the gradient dy of the output, and for R1 v (of y) and dgx (of gx)."""
    where = device.current().torch_device
    generator = torch.Generator(where).manual_seed(0)
    x_shape = (case.batch, case.in_channels, case.in_slots, *case.in_size)
    y_shape = (case.batch, case.out_channels, case.order, *case.out_size)
    shapes = {"x": x_shape, "dy": y_shape, "v": y_shape, "dgx": x_shape}
    shapes["weight"] = (case.out_channels, case.in_channels, case.in_slots, case.kernel, case.kernel)
    if case.bias:
        shapes["bias"] = (case.out_channels,)
    random = {"generator": generator, "device": where}
    tensors = {name: torch.randn(shape, **random).to(precision.dtype) for name, shape in shapes.items()}
    return {"bias": None} | tensors


def ours(case: ConvCase, tensors: dict, **options) -> Layer:
    """The library's layer as users get it; ``options`` are ``algorithm`` and ``backend``."""
    function = gk.lift_conv2d if case.in_slots == 1 else gk.group_conv2d
    conv = partial(function, group=case.group, stride=case.stride, padding=case.padding, **options)
    if case.in_slots == 1:
        tensors = {**tensors, "weight": tensors["weight"][:, :, 0]}

    def as_map(t):
        if t.shape[2] == 1:
            return t[:, :, 0].contiguous(memory_format=torch.channels_last)
        return t.contiguous(memory_format=torch.channels_last_3d)

    return Layer(conv, tensors, as_map, gk.no_weight_gradients)


def filter_stack(case: ConvCase, tensors: dict, build_stack, memory_format, *, compiled=False) -> Layer:
    """The naive layer; for a plain case (group "p1") an ordinary convolution."""

    def conv(x, weight, bias):
        return naive.conv2d(x, weight, bias, case.group, case.stride, case.padding, build_stack)

    def as_map(t):
        return t.flatten(1, 2).clone(memory_format=memory_format)

    return Layer(torch.compile(conv) if compiled else conv, tensors, as_map)


def escnn_layer(case: ConvCase, tensors: dict) -> Layer:
    """escnn's R2Conv between regular representations. Its filters are a subspace of the others', so values differ.

    Raises:
        ImportError: where it cannot be used, with the reason.
    """
    if importlib.util.find_spec("escnn") is None:
        raise ImportError("escnn is not installed")
    from escnn import gspaces
    from escnn.nn import FieldType, GeometricTensor, R2Conv

    space = gspaces.rot2dOnR2(4) if case.group == "p4" else gspaces.flipRot2dOnR2(4)
    lifting = [space.trivial_repr] if case.in_slots == 1 else [space.regular_repr]
    fields = FieldType(space, case.in_channels * lifting), FieldType(space, case.out_channels * [space.regular_repr])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = R2Conv(*fields, case.kernel, padding=case.padding[0], bias=case.bias, initialize=False)
    except TypeError as error:  # 1.0.11 hands np.matrix to scikit-learn, which refuses it since 1.2
        raise ImportError(f"escnn fails for {case.group}: {error}") from error
    torch.nn.init.normal_(module.weights)

    def conv(x, weight, bias):
        return module(GeometricTensor(x, fields[0])).tensor

    layer = Layer(conv, tensors, lambda t: t.flatten(1, 2).contiguous())
    layer.leaves = [layer.x, *module.parameters()]
    return layer


def problem(case: ConvCase, op: str, where, dtype: torch.dtype) -> ConvProblem:
    """A case as the library's backends see it."""
    return ConvProblem.of(
        op, (case.batch, case.in_channels, case.in_slots, *case.in_size),
        (case.out_channels, case.in_channels, case.in_slots, case.kernel, case.kernel),
        group=gk.point_group(case.group), stride=case.stride, padding=case.padding,
        dtype=dtype, device=torch.device(where),
    )  # fmt: skip


def chosen_algorithms(case: ConvCase, mode: str, precision: Precision) -> list[str]:
    """What ``algorithm="auto"`` takes for the operators of a mode, without repetitions."""
    problems = (problem(case, op, device.current().torch_device, precision.dtype) for op in MODES[mode])
    chosen = (choose_for_conv(problem, "auto", "auto")[1] for problem in problems)
    return list(dict.fromkeys(chosen))


def stack_gflop(case: ConvCase, mode: str) -> float:
    """What the filter stack computes in a mode, in 10^9 multiplications and additions, whatever is really done."""
    return 2e-9 * case.stack_multiplications * len(MODES[mode])


def error(result, reference) -> float:
    """The largest relative error ||a - b|| / ||b|| of a mode's results."""
    pairs = zip(result, reference, strict=True)
    return max(((a.reshape(b.shape) - b).norm() / b.norm()).item() for a, b in pairs)


def check(case: ConvCase, mode: str, precision: Precision, ours: Layer, stack: Layer, build_stack) -> None:
    """Compares ours with the filter stack. Where they disagree float64 decides: ours may be twice as far from it."""
    results, naive_results = ours.run(mode), stack.run(mode)
    if error(results, naive_results) < 2 * precision.tolerance:
        return
    tensors = {name: None if t is None else t.double() for name, t in draw(case, precision).items()}
    exact = filter_stack(case, tensors, build_stack, torch.contiguous_format).run(mode)
    assert error(results, exact) < max(precision.tolerance, 2 * error(naive_results, exact))
