"""Online experiments: which variants a unit gets. No torch, no numpy: the server and warehouses' checks import it."""
