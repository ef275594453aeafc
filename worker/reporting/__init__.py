"""What is shown of a training or an evaluation: metrics, figures, one page that needs no server."""
