"""Speed and quality against named references: each module prints a table and appends JSON lines to build/bench."""
