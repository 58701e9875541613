"""The public interface is typed, and says so (``py.typed``); what the annotations say is checked by mypy in .ci/run."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path

import gcnn_kernels

# Of these, what is public is for those who add a backend or an operator.
INTERNAL = ("gcnn_kernels.backends", "gcnn_kernels.ops")


def public_modules() -> list[str]:
    names = ["gcnn_kernels", "gcnn_kernels.ops.flops"]
    for module in pkgutil.walk_packages(gcnn_kernels.__path__, "gcnn_kernels."):
        private = any(part.startswith("_") for part in module.name.split("."))
        if not private and not module.name.startswith(INTERNAL):
            names.append(module.name)
    return names


def public_functions(module) -> Iterator[tuple[str, Callable]]:
    """The functions of a module, and the methods of its classes with those that they inherit from this package."""
    exported = getattr(module, "__all__", None)
    for name, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__
        if name not in exported if exported is not None else name.startswith("_") or not own:
            continue
        if inspect.isclass(value):
            yield from methods(value)
        elif callable(value):
            yield name, value


def methods(kind: type) -> Iterator[tuple[str, Callable]]:
    for base in kind.__mro__:
        if not base.__module__.startswith("gcnn_kernels"):
            continue
        for name, member in vars(base).items():
            if name.startswith("_") and name not in ("__init__", "__call__"):
                continue
            if isinstance(member, property):
                member = member.fget
            member = inspect.unwrap(getattr(member, "__func__", member))  # of a class method, of a cached function
            if inspect.isfunction(member):
                yield f"{kind.__name__}.{name}", member


def unannotated(function: Callable) -> list[str]:
    """The parameters without an annotation, and "return" if there is none for the result."""
    signature = inspect.signature(function)
    missing = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.annotation is parameter.empty and name not in ("self", "cls")
    ]
    if signature.return_annotation is signature.empty and function.__name__ != "__init__":
        missing.append("return")
    return missing


def test_every_public_parameter_is_annotated():
    functions = [
        (f"{name}.{function}", value)
        for name in public_modules()
        for function, value in public_functions(importlib.import_module(name))
    ]
    names = {name for name, _ in functions}
    assert {"gcnn_kernels.lift_conv2d", "gcnn_kernels.nn.GroupBatchNorm2d.__init__"} <= names, "nothing was looked at"
    assert len(names) > 200
    assert {name: missing for name, value in functions if (missing := unannotated(value))} == {}


def test_a_lost_annotation_is_found():
    class Layer(gcnn_kernels.nn.GroupConv2d):
        def forward(self, x):
            return x

    Layer.__module__ = "gcnn_kernels.nn"
    assert ["x", "return"] in [unannotated(method) for name, method in methods(Layer) if name == "Layer.forward"]

    def bare(x, *rest, y: int = 0, **options) -> int:
        return 0

    assert unannotated(bare) == ["x", "rest", "options"]


def test_package_says_that_it_is_typed():
    assert (Path(gcnn_kernels.__file__).parent / "py.typed").is_file()
