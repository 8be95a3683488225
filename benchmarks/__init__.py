"""Benchmarks of bertpipe against what people use instead; `python -m benchmarks --help`."""
