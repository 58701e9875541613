"""Distances between generated and real images, computed by torch-fidelity from features."""
