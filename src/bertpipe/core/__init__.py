"""The ground that all else stands on: params, errors, files. It imports nothing of ours above it."""
