"""One module per command: each reads, calls and writes."""
