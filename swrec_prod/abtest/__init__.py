"""What an experiment says, and how long the next one must run: exposures joined with outcomes, no torch."""
