"""The walk along a network's graph, on which each node becomes its counterpart on the group."""

from __future__ import annotations

import math
import operator

import torch
import torch.nn.functional as F
from torch import fx, nn

from .. import nn as gnn
from ..groups import PointGroup
from .functions import ELEMENTWISE, ELEMENTWISE_METHODS, SOFTMAX, check_shape_access, is_smooth, upsample_of
from .layers import Unconvertible, Value, convert_layer

_WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


class Conversion:
    """Walks along a traced network's graph and replaces what it meets.

    Args:
        network: traced; it is changed.
        group: of the layers.
        divisor: of the widths.
        pool: the class of the pooling over the group.
    """

    def __init__(self, network: fx.GraphModule, group: PointGroup, divisor: float, pool: type[nn.Module]):
        self.network: fx.GraphModule = network
        self.graph: fx.Graph = network.graph
        self.modules: dict[str, nn.Module] = dict(network.named_modules())
        self.group: PointGroup = group
        self.divisor: float = divisor
        self.pool: type[nn.Module] = pool
        self.multiples: dict[int, int] = _multiples(self.modules.values())
        self.values: dict[fx.Node, Value] = {}
        self.replaced: dict[str, tuple[nn.Module, Value]] = {}
        self.problems: list[str] = []
        self.heads: set[fx.Node] = set()  # the layers with weights behind which there is no other such layer
        self.last: set[fx.Node] = set()  # what has no layer with weights behind it
        self._find_ends()

    def run(self) -> None:
        for node in list(self.graph.nodes):
            try:
                getattr(self, f"_{node.op}")(node)
            except Unconvertible as problem:
                name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.name)
                kind = type(self.modules[name]).__name__ if node.op == "call_module" else "operation"
                self.problems.append(f"{name!r} ({kind}): {problem}")
                self.values[node] = Value("unknown", None, None)
        if not self.problems and not any(isinstance(layer, gnn.LiftingConv2d) for layer in self.modules.values()):
            self.problems.append("the network: there is no convolution in it")
        if self.problems:
            raise ValueError("module: cannot convert\n  " + "\n  ".join(self.problems))
        self._fuse_activations()
        self.graph.lint()
        self.network.delete_all_unused_submodules()
        self.network.recompile()

    def width(self, channels: int) -> int:
        multiple = self.multiples.get(channels, 1)
        return multiple * max(1, round(channels / self.divisor / multiple))

    def _find_ends(self):
        for node in reversed(self.graph.nodes):
            if any(user not in self.last or user in self.heads for user in node.users):
                continue
            self.last.add(node)
            if node.op == "call_module" and isinstance(self.modules[node.target], _WEIGHTED):
                self.heads.add(node)
        self.heads = {node for node in self.heads if not self._joins_others(node)}

    def _joins_others(self, head):
        """Whether its output meets values from before it (in a residual block), whose widths it has to have."""
        return any(
            source not in self.last and source.op != "placeholder"
            for user in _users(head)
            for source in user.all_input_nodes
        )

    def _placeholder(self, node):
        self.values[node] = Value("image", None, None)

    def _get_attr(self, node):
        raise Unconvertible("a parameter or buffer of a module's own may break equivariance")

    def _output(self, node):
        self._pool_inputs(node)

    def _call_module(self, node):
        layer = self.modules[node.target]
        source = node.args[0] if node.args else next(iter(node.kwargs.values()))
        value = self._value(source)
        if isinstance(layer, (nn.Softmax, nn.LogSoftmax)) and node in self.last:
            self._pool_inputs(node)
            source = node.all_input_nodes[0]
            value = self._value(source)
        if node in self.heads and _acts_on_channels_alone(layer, value):
            with self.graph.inserting_before(node):
                pooled = self._pool_group(source, flatten=isinstance(layer, nn.Linear))
            node.replace_input_with(source, pooled)
            value = Value("planar", value.channels, value.before)
        original, given = self.replaced.setdefault(node.target, (layer, value))
        fit, new, result = convert_layer(original, value, self, is_head=node in self.heads)
        if layer is not original:  # called before
            if type(new) is not type(layer) or (given != value and next(layer.parameters(), None) is not None):
                raise Unconvertible("it is called more than once, with different kinds of input")
            new = layer
        if fit is not None:
            with self.graph.inserting_before(node):
                node.replace_input_with(source, self._insert(f"{node.target}_fit", fit, source))
        if new is not layer:
            self.network.set_submodule(node.target, new.to(_like(original)))
            self.modules[node.target] = new
        self.values[node] = result
        if value.kind in ("map", "flat") and isinstance(original, nn.Flatten):
            self._erase(node, source)

    def _call_function(self, node):
        inputs = [self.values[n] for n in node.all_input_nodes if n in self.values]
        if not inputs:
            return  # sizes and what is computed from them
        if any(value.kind == "unknown" for value in inputs):
            self.values[node] = inputs[0] if inputs[0].kind == "unknown" else Value("unknown", None, None)
            return
        target = node.target
        if target in (getattr, operator.getitem):
            check_shape_access(node)
        elif target in ELEMENTWISE:
            self.values[node] = self._combined(node)
        elif target in SOFTMAX:
            self._softmax(node, node.args[1] if len(node.args) > 1 else node.kwargs.get("dim"))
        elif target in (torch.cat, torch.concat):
            self.values[node] = self._concatenated(node, inputs)
        elif target is torch.flatten:
            self._flatten(node, node.args[1:] or (node.kwargs.get("start_dim", 0),))
        elif target is F.dropout:
            # Traced, its argument ``training`` is a constant; the module's is not.
            p = node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5)
            self._call_layer_function(node, nn.Dropout(p))
        elif target is F.interpolate and node in self.last and is_smooth(node):
            self._pool_inputs(node)
            self.values[node] = self._value(node.args[0])
        elif target is F.interpolate:
            self._call_layer_function(node, upsample_of(node))
        elif target in (F.max_pool2d, F.avg_pool2d, torch.max_pool2d):
            kind = nn.AvgPool2d if target is F.avg_pool2d else nn.MaxPool2d
            self._call_layer_function(node, kind(*node.args[1:], **node.kwargs))
        elif target is F.adaptive_avg_pool2d:
            self._call_layer_function(node, nn.AdaptiveAvgPool2d(*node.args[1:], **node.kwargs))
        elif target is torch.mean:
            self._mean(node, node.args[1:])
        else:
            raise Unconvertible("it is not known to be equivariant")

    def _call_method(self, node):
        value = self._value(node.args[0]) if node.args[0] in self.values else None
        if value is None or value.kind == "unknown":
            if value is not None:
                self.values[node] = value
            return
        if node.target in ELEMENTWISE_METHODS:
            self.values[node] = self._combined(node)
        elif node.target in ("softmax", "log_softmax"):
            self._softmax(node, node.args[1] if len(node.args) > 1 else node.kwargs.get("dim"))
        elif node.target == "size":
            check_shape_access(node)
        elif node.target == "flatten":
            self._flatten(node, node.args[1:] or (node.kwargs.get("start_dim", 0),))
        elif node.target in ("view", "reshape") and len(node.args) == 3 and node.args[2] == -1:
            self._flatten(node, (1,))
        elif node.target == "mean":
            self._mean(node, node.args[1:])
        else:
            raise Unconvertible("it is not known to be equivariant")

    def _value(self, node):
        value = self.values.get(node)
        if value is None:
            raise Unconvertible("its input is not an image or a map")
        return value

    def _call_layer_function(self, node, layer):
        """A function that is the same as a layer: converted as that."""
        value = self._value(node.args[0])
        _, new, self.values[node] = convert_layer(layer, value, self, is_head=False)
        with self.graph.inserting_before(node):
            self._erase(node, self._insert(f"{node.name}_planes", new, node.args[0]))

    def _flatten(self, node, arguments):
        value = self._value(node.args[0])
        if tuple(arguments) not in ((1,), (1, -1)):
            raise Unconvertible("only a flattening from dimension 1 on is known")
        if value.kind in ("map", "flat"):
            self.values[node] = Value("flat", value.channels, value.before)
            self._erase(node, node.args[0])
        elif value.kind == "planar":
            self.values[node] = value
        else:
            raise Unconvertible("it flattens an image")

    def _mean(self, node, arguments):
        value = self._value(node.args[0])
        dims = arguments[0] if arguments else node.kwargs.get("dim")
        keep = node.kwargs.get("keepdim", arguments[1] if len(arguments) > 1 else False)
        if not isinstance(dims, (tuple, list)) or sorted(d % 4 for d in dims) != [2, 3]:
            raise Unconvertible("only a mean over the plane, dimensions 2 and 3, is known")
        if value.kind == "planar":
            self.values[node] = value
            return
        with self.graph.inserting_before(node):
            new = self._insert(f"{node.name}_planes", gnn.SpatialAdaptiveAvgPool2d(1), node.args[0])
        self.values[node] = value if keep else Value("flat", value.channels, value.before)
        self._erase(node, new)

    def _softmax(self, node, dim):
        self._pool_inputs(node)
        value = self._value(node.args[0])
        if dim != 1 or value.kind != "planar":
            raise Unconvertible("only a softmax over the channels, dimension 1, behind the last layer is known")
        self.values[node] = value

    def _combined(self, node):
        """Of the inputs of what works on every element alone."""
        inputs = [n for n in node.all_input_nodes if n in self.values]
        kinds = {self.values[n].kind for n in inputs}
        if node in self.last and kinds & {"image", "planar"}:
            self._pool_inputs(node)
            inputs = [n for n in node.all_input_nodes if n in self.values]
            kinds = {self.values[n].kind for n in inputs}
        first, *others = (self.values[n] for n in inputs)
        if kinds == {"image", "planar"}:  # such as an image plus what a network finds to be missing in it
            return next(self.values[n] for n in inputs if self.values[n].kind == "planar")
        for other in others:
            if other.kind != first.kind:
                raise Unconvertible(f"it combines a value of kind {first.kind!r} with one of kind {other.kind!r}")
            if other.channels != first.channels:
                raise Unconvertible(
                    f"after rounding it would combine {first.channels} with {other.channels} channels; "
                    "take width='keep'"
                )
        return first

    def _pool_inputs(self, node):
        """Pools what of the node's inputs is a map on the group over the group."""
        for source in node.all_input_nodes:
            value = self.values.get(source)
            if value is not None and value.kind in ("map", "flat"):
                with self.graph.inserting_before(node):
                    pooled = self._pool_group(source)
                self.values[pooled] = Value("planar", value.channels, value.before)
                node.replace_input_with(source, pooled)

    def _concatenated(self, node, inputs):
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        kinds = {value.kind for value in inputs}
        if dim != 1 or len(kinds) > 1:
            raise Unconvertible("only maps, or only images, can be concatenated, and along dimension 1")
        known = all(value.channels is not None for value in inputs)
        return Value(
            inputs[0].kind,
            sum(value.channels for value in inputs) if known else None,
            sum(value.before for value in inputs) if known else None,
        )

    def _pool_group(self, source, flatten=False):
        pooled = self._insert("group_pool", self.pool(), source)
        if flatten or self.values[source].kind == "flat":
            pooled = self.graph.call_function(torch.flatten, (pooled, 1))
        return pooled

    def _insert(self, name, layer, source):
        name = name.replace(".", "_")
        if name not in self.modules:
            self.network.add_submodule(name, layer)
            self.modules[name] = layer
        return self.graph.call_module(name, (source,))

    def _erase(self, node, replacement):
        self.values[replacement] = self.values[node]
        node.replace_all_uses_with(replacement)
        self.graph.erase_node(node)

    def _fuse_activations(self):
        """A ReLU behind a batch norm or a convolution, and behind nothing else, becomes part of its pass."""
        kinds = gnn.GroupBatchNorm2d, gnn.LiftingConv2d, gnn.GroupConv2d
        for node in list(self.graph.nodes):
            layer = self.modules.get(node.target) if node.op == "call_module" else None
            if not isinstance(layer, kinds) or layer.activation or len(node.users) != 1:
                continue
            user = next(iter(node.users))
            relu = isinstance(self.modules.get(user.target), nn.ReLU) if user.op == "call_module" else False
            calls = sum(n.op == "call_module" and n.target == node.target for n in self.graph.nodes)
            if calls == 1 and (relu or user.target in (F.relu, torch.relu, "relu", "relu_")):
                layer.activation = "relu"
                user.replace_all_uses_with(node)
                self.graph.erase_node(user)


def _multiples(modules):
    """Number of channels -> what the width that it becomes has to be a multiple of, for grouped convolutions."""
    multiples = {}
    for layer in modules:
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and 1 < layer.groups < layer.in_channels:
            for channels in (layer.in_channels, layer.out_channels):
                multiples[channels] = math.lcm(multiples.get(channels, 1), layer.groups)
    return multiples


def _users(node):
    """What is computed from it."""
    found, new = set(), [node]
    while new:
        more = set(new.pop().users) - found
        found |= more
        new += more
    return found


def _acts_on_channels_alone(layer, value):
    """Whether a head has no extent in the plane, so that the pooling over the group can come before it."""
    if isinstance(layer, nn.Linear):
        return value.kind == "flat" and layer.in_features == value.before
    return (
        value.kind == "map"
        and isinstance(layer, nn.Conv2d)
        and layer.groups == 1
        and tuple(layer.kernel_size) == (1, 1)
        and tuple(layer.stride) == (1, 1)
    )


def _like(layer):
    tensor = next(layer.parameters(), None)
    return tensor if tensor is not None else torch.empty(0)
