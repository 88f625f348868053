"""The exposure log: who was shown what, by which variant, model and c, so that it can be analysed and trained on."""
