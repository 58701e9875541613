"""A run on disk: its folder, checkpoints, curves and results, its generator, and what is done with it."""

from .generator import TrainedGenerator, load_generator

__all__ = ["TrainedGenerator", "load_generator"]
