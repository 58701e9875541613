"""The operators in torch's dispatcher: schema, shape function, autocast, autograd. Importing this registers them."""

from . import conv, filters, linear, norm, pool

__all__ = ["conv", "filters", "linear", "norm", "pool"]
