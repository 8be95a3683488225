"""The embedded sample: reviews of an invented film world, written by rule, the same on every machine."""
