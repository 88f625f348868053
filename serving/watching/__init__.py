"""What can be seen of a server: counts and metrics, and the log of its requests."""
