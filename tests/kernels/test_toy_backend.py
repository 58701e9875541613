"""A whole backend: the example of CONTRIBUTING.md, and the checks that every backend has to pass.

In the tree it would be the folder ``gcnn_kernels/backends/toy`` and one line in ``gcnn_kernels/backends/__init__.py``.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from kernel_cases import assert_close, check_filters

import gcnn_kernels as gk
from gcnn_kernels._layout import to_map_format
from gcnn_kernels.backends import BACKENDS, Backend
from gcnn_kernels.backends.filter_indices import filter_sources, filter_targets


class Filters:
    """Every pose of every filter by indexing, one group element after the other."""

    def expand_filters(self, weight, group):
        cout, cin, slots, k, _ = weight.shape
        sources = filter_sources(group, slots, k, weight.device)
        poses = [weight.flatten(2)[..., source] for source in sources]
        return torch.stack(poses, 1).view(cout * group.order, cin * slots, k, k)

    def reduce_filters(self, stack, group, in_slots):
        k, targets = stack.shape[-1], filter_targets(group, in_slots, stack.shape[-1], stack.device)
        poses = stack.reshape(-1, group.order, stack.shape[1] // in_slots, in_slots * k * k).unbind(1)
        total = sum(pose[..., target] for pose, target in zip(poses, targets, strict=True))
        return total.unflatten(2, (in_slots, k, k))


class Columns:
    """The convolution as one matrix product: the filter stack times the patches that it meets, as columns."""

    def conv(self, problem, x, weight, bias=None):
        y = self._stack(problem, weight) @ F.unfold(x.flatten(1, 2), problem.kernel, **self._geometry(problem))
        y = y.view(problem.out_shape)
        return to_map_format(y if bias is None else y + bias.view(-1, 1, 1, 1), like=x)

    def conv_input_grad(self, problem, grad, weight):
        columns = self._stack(problem, weight).T @ grad.flatten(1, 2).flatten(2)
        x = F.fold(columns, problem.in_size, problem.kernel, **self._geometry(problem))
        return to_map_format(x.view(problem.in_shape), like=grad)

    def conv_weight_grad(self, problem, grad, x):
        columns = F.unfold(x.flatten(1, 2), problem.kernel, **self._geometry(problem))
        stack = torch.einsum("bop,bcp->oc", grad.flatten(1, 2).flatten(2), columns)
        stack = stack.unflatten(1, (-1, problem.kernel, problem.kernel))
        return FILTERS.reduce_filters(stack, problem.group, problem.in_slots)

    def _stack(self, problem, weight):
        return FILTERS.expand_filters(weight, problem.group).flatten(1)

    def _geometry(self, problem):
        return {"stride": problem.stride, "padding": problem.padding, "dilation": problem.dilation}


class Conv:
    algorithms = {"direct": Columns()}  # noqa: RUF012
    takes_cosets = folds = ()

    def unsupported(self, problem, algorithm):
        if problem.groups > 1:
            return f"it has no grouped convolutions, groups is {problem.groups}"
        return None if algorithm in ("auto", "direct") else f"it has the algorithm 'direct' only, not {algorithm!r}"

    def choose_algorithm(self, problem):
        return "direct"


def unsupported(device, dtype):
    return None if (device.type, dtype) == ("cpu", torch.float64) else f"it computes float64 on CPUs, not {dtype}"


FILTERS = Filters()
BACKEND = Backend(
    "toy",
    unavailable=lambda: None,
    unsupported=unsupported,
    conv=Conv(),
    filters=FILTERS,
    explicit_only=lambda: "it is an example",
)


# --- tests -------------------------------------------------------------------------------------------------------
@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(BACKENDS, "toy", BACKEND)


@pytest.mark.parametrize("group", ["p1", "p4", "p4m", "c8"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d], ids=str)
@pytest.mark.parametrize(
    "geometry", [{}, {"padding": 1}, {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)}], ids=str
)
def test_convolutions_and_their_derivatives(group, memory_format, geometry):
    torch.manual_seed(0)
    order = gk.point_group(group).order
    x = torch.randn(2, 3, order, 7, 6, dtype=torch.float64).contiguous(memory_format=memory_format)
    weight, bias = torch.randn(2, 3, order, 3, 3, dtype=torch.float64), torch.randn(2, dtype=torch.float64)

    def results(backend):
        leaves = [t.clone(memory_format=torch.preserve_format).requires_grad_() for t in (x, weight, bias)]
        lifted = gk.lift_conv2d(leaves[0][:, :, 0], leaves[1][:, :, 0], leaves[2], group, **geometry, backend=backend)
        y = gk.group_conv2d(*leaves, group, **geometry, backend=backend)
        first = torch.autograd.grad((y**2).sum() + (lifted**2).sum(), leaves, create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), leaves[:2])
        return [y, lifted, *first, *second]

    for found, expected in zip(results("toy"), results("reference"), strict=True):
        assert_close(found, expected, 1e-13, "result or derivative")
        assert found.stride() == expected.stride()


@pytest.mark.parametrize("group", ["p1", "p4", "p4m"])
def test_filters(group):
    point = gk.point_group(group)
    for in_slots in {1, point.order}:
        check_filters(BACKEND, "cpu", torch.float64, point, in_slots, 3)


def test_what_it_cannot_serve():
    x, weight = torch.randn(1, 2, 4, 5, 5), torch.randn(3, 2, 4, 3, 3)
    with pytest.raises(RuntimeError, match=r"'toy' cannot run conv .*: it computes float64 on CPUs, not torch.float32"):
        gk.group_conv2d(x, weight, backend="toy")
    with pytest.raises(RuntimeError, match=r"'toy' cannot run conv .*: it has the algorithm 'direct' only, not 'exp"):
        gk.group_conv2d(x.double(), weight.double(), backend="toy", algorithm="expand")
    with pytest.raises(RuntimeError, match=r"'toy' cannot run pool on .*: it has no kernels for this operation"):
        gk.group_max_pool(x.double(), backend="toy")


def test_automatic_choice_passes_over_it(monkeypatch):
    x = torch.randn(1, 2, 4, 5, 5, dtype=torch.float64)
    for name in set(BACKENDS) - {"toy"}:
        monkeypatch.setattr(BACKENDS[name], "unavailable", lambda: "it is switched off")
    with pytest.raises(RuntimeError, match=r"(?s)no backend can run pool .*\n  toy: it is an example"):
        gk.group_max_pool(x)
