"""Training classifiers: networks, the loop, checkpoints, and the making of a model version. Knows no queue and no SQL."""
