"""The Parquet contract, and batches of it."""
