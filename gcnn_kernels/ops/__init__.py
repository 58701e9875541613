"""The operators in torch's dispatcher: schema, shapes, autocast, derivatives, FLOPs. Importing this registers them."""

from . import conv, filters, folded, interpolation, linear, norm, pool

from . import flops  # isort: skip  (of the operators above)

__all__ = ["conv", "filters", "flops", "folded", "interpolation", "linear", "norm", "pool"]
