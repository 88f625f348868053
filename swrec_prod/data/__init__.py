"""From the standard table to batches: encode, etl, prepare, catalog, reader, pack, batch."""
