"""The network, how it is stored, and how foreign weights come in."""
