"""Steps beside their limit and beside those of others: `python -m ravine bench`."""
