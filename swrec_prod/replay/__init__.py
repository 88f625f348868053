"""What another package would have said to the requests of an exposure log."""
