"""The words behind the ids of a zip that came without its vocabulary, found from the texts that it does have."""
