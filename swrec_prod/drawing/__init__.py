"""What pages are made of: records, templates, and the forms of pictures."""
