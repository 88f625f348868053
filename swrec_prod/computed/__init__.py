"""Columns of events that the log does not bring: derived ones, the tables that they look up, and labels by rule."""
