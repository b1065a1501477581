"""Fuzz targets: one file each, which opens with its invariant. tests/fuzz/run tries inputs guided by coverage."""
