"""Commands that ask a server: the held-out rows of a prepared folder, and load."""
