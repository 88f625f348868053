"""Judging models over days: backfill, the gate that a challenger passes or not, studies."""
