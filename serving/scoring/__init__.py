"""From the columns of a request to its scores, for one package: encoder, predictor, counts of unknown ids."""
