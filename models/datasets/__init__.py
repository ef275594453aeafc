"""Labelled pictures as a whole: their split, their duplicates, and what is to be told of them before a training."""
