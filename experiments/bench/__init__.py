"""Honest timing: sparse layers beside dense ones of the same work (docs/benchmarks/moe.md).

Nothing is imported here, so that the command line reads `settings` without JAX.
"""
