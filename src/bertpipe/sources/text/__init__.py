"""Documents to sentence pairs."""
