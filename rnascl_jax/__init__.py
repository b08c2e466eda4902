"""Robust neural architecture search by cross-layer distillation, in JAX."""
