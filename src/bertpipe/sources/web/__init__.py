"""Files from the web: asked for, received in pieces if need be, and kept until they are complete."""
