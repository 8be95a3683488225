"""The notebook's CSV zip, in and out."""
