"""Negatives for logs of positives only: items that a user had not met, drawn for each positive row at its moment."""
