"""The values of params.yaml, from which tests change what they are about: a new key needs no edit of a test."""

from pathlib import Path

from bertpipe.core.params_file import load_params

DEFAULTS = load_params(Path(__file__).parent.parent / "params.yaml")
