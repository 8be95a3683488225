"""The Parquet format of the data, and batches of it."""
