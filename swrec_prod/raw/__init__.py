"""Raw files of logs: fetched and checked, and their columns by name and type."""
