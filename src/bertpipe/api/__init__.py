"""The Python API: what programs and notebooks do with bertpipe. `bertpipe` itself offers its names."""
