"""The messages that travel: our own contract, and how bytes become arrays. Needs protobuf and numpy."""
