"""`make bench-judging`: whether what judges models and experiments keeps its word, and how fast it is."""
