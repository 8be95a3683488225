"""Who works on shards: this process, several processes, or Ray."""
