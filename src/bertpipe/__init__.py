"""bertpipe: pretrain BERT from scratch as a reproducible pipeline."""

__version__ = "0.1.0"
