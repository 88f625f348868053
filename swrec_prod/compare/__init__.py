"""Runs beside each other: which differences between variants are real, and what would show smaller ones."""
