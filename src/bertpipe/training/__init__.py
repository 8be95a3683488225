"""The training loop and its parts: objective, optimizer, checkpoints."""
