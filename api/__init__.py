"""Submission over HTTP: thin, and free of machine-learning packages."""
