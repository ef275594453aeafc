"""Hands: every command, and the embedded local mode."""
