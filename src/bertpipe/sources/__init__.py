"""Where rows come from: one folder per source."""
