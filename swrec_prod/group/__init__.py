"""How the ranks of a run find each other, see that all are alive, and leave together."""
