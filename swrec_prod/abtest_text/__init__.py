"""Experiments in words and numbers: what was analysed or planned, for the terminal, Markdown and JSON."""
