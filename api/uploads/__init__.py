"""Files that come in over HTTP: their names, their bytes, their limits, their end."""
