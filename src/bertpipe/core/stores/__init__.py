"""Object stores: their objects, and directories of them by URL."""
