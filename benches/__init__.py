"""Benchmarks of gcnn_kernels against what users have without it (see README.md)."""
