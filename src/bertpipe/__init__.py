"""bertpipe: pretrain BERT from scratch as a reproducible pipeline."""

import logging

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())
