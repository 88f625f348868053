"""Raw values -> ids and numbers, and their places in a batch:
the only encoder, offline and online; no torch, no engine.
"""
