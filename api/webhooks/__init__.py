"""Webhooks: signed calls to other programs when a job changes."""
