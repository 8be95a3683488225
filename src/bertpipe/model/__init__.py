"""The network, stored and loaded."""
