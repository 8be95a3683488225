"""Texts with a label, for `probe`."""
