"""Figures of a run in progress, for the programs that people follow runs with."""
