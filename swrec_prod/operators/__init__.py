"""Operators of torch that are ours: programs in packages hold their names, so that whoever loads one imports them."""
