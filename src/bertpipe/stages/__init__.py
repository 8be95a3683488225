"""One module per stage of `dvc.yaml`: each reads, calls and writes."""
