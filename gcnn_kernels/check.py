"""``python -m gcnn_kernels.check FILE.py:NAME``: whether a network is equivariant, and which layer breaks it.

NAME is an ``nn.Module``, or a function or class that makes one without arguments. Exit status 0 where the network is
equivariant, 1 where it is not, 2 where it cannot be checked.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import torch
from torch import nn

from .equivariance import check_equivariance
from .groups import PointGroup


def load_network(source: str) -> nn.Module:
    """The network named FILE.py:NAME."""
    file, _, name = source.rpartition(":")
    path = Path(file)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not file or not name or not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"network: expected FILE.py:NAME with a file that exists, got {source!r}")
    code = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = code
    spec.loader.exec_module(code)
    if not hasattr(code, name):
        raise ValueError(f"network: expected a name of {path}, got {name!r}")
    found = getattr(code, name)
    network = found if isinstance(found, nn.Module) else found() if callable(found) else found
    if not isinstance(network, nn.Module):
        raise ValueError(f"network: expected {name!r} to be an nn.Module or to make one, got {type(network).__name__}")
    return network


def group_of(network: nn.Module) -> str:
    """The group of the network's layers; the largest one if there are several, p4 if there is none."""
    found = (getattr(module, "point_group", None) for module in network.modules())
    groups = [group for group in found if isinstance(group, PointGroup)]
    return max(groups, key=lambda group: group.order).name if groups else "p4"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m gcnn_kernels.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", metavar="FILE.py:NAME")
    parser.add_argument("--group", help="p4, p4m, ... (the group of the network's layers)")
    parser.add_argument("--shape", default="2,3,32,32", help="of the input, B,C,H,W (%(default)s)")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="relative to the largest output (%(default)s)")
    parser.add_argument(
        "--as-it-is", action="store_true", help="leave parameters that are all equal, such as zero biases"
    )
    given = parser.parse_args(arguments)
    try:
        shape = [int(n) for n in given.shape.split(",")]
        network = load_network(given.network)
        report = check_equivariance(
            network,
            torch.randn(shape, generator=torch.Generator().manual_seed(0)),
            given.group or group_of(network),
            tolerance=given.tolerance,
            perturb=not given.as_it_is,
        )
    except (TypeError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report)
    return 0 if report else 1


if __name__ == "__main__":
    sys.exit(main())
