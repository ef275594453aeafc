"""Processes that answer reads for the API while several come at once: further cores, and no waiting in line."""
