"""Self-contained HTML pages for people: about a run, about runs compared, about a backfill and an experiment."""
