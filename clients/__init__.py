"""Programs that open an exported model, each in an environment of its own, compared with bertpipe: `make clients`."""
