"""Batches made on a device, in fixed shapes."""
