"""The papers' vocabulary as torch modules: nothing here knows a table, a loss, a device or a file."""
