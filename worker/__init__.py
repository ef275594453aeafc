"""Work: Celery's doorway, the pipeline, sources of images, and the processes that keep it all running."""
