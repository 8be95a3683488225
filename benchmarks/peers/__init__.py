"""What bertpipe is timed against, written from their descriptions and public interfaces."""
