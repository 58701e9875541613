"""Classifiers: the p4-CNN and Z2CNN of Cohen & Welling, their training and their files."""
