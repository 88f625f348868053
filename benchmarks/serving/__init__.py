"""`make bench-serving` and `make soak`: a server under load, and the parts of a request."""
