"""Items that were in hand when a worker ended: each is prepared alone, in a process that may die of it."""
