"""Studies: grids of runs that answer a question, on rows that are changed for it."""
