"""The page of `bertpipe demo` and of a Hugging Face Space, and the Space's own files."""
