"""Figures of a model, and simple predictors beside it."""
