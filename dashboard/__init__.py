"""Pages for people. Reads only."""
