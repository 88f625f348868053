"""What every model is built of: its inputs, and layers for one, several or all scenarios; torch only."""
