"""One module per command that is no stage of `dvc.yaml`: each reads, calls and writes."""
