"""Fine-tuning jobs: the station that claims them, and the trainer process where TensorFlow is."""
