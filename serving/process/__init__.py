"""The processes of a server: how they start, share their packages, report, and end."""
