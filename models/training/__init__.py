"""Training classifiers: networks, the loop, checkpoints, the making of a version. Knows no queue and no SQL."""
