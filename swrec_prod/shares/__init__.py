"""Rows that nobody holds all of: dealt out by group, and their scores by range, over ranks and in turns on the disk."""
