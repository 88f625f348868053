"""A raw log -> prepared days: `swrec prepare`."""
