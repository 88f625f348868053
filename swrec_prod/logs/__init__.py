"""A team's own logs: which files they are, of which days, and what is joined to them."""
