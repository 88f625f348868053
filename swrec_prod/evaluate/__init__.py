"""Judging a trained run: predictions file, metrics, comparison and report."""
