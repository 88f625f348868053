"""A raw log whose causes are known, with the hidden truth beside it."""
