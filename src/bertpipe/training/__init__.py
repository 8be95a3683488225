"""Optimizer steps, and what makes a run exact and resumable."""
