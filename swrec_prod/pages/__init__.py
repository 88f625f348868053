"""Self-contained HTML pages for people: about a run, and about runs compared."""
