"""What a user did before an impression: which events those are, and their lists."""
