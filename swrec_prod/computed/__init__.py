"""What is computed of events: derived columns, the tables that they look up, labels by rule, what is fitted."""
