"""docs/results.md: models trained on public data, and the page of what came of it."""
