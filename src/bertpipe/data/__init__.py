"""Everything between a text and a batch of tensors, each step a pure piece."""
