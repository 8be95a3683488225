"""One module a stage of the pipeline: read inputs, call the floors below, write outputs."""
