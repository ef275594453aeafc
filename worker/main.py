"""The program of one Celery worker, with the settings of its environment."""

from worker.app import make_app
from worker.channels import close_refused
from worker.settings import Settings

settings = Settings()
app = make_app(settings)

ARGUMENTS = (
    "worker",
    "--pool=prefork",
    "--concurrency=1",
    "--without-gossip",
    "--without-mingle",
    "--without-heartbeat",
    "--loglevel=INFO",
)


def main(queue: str, name: str) -> None:
    """Serve a queue until told to stop."""
    close_refused()
    app.worker_main([*ARGUMENTS, f"--queues={queue}", f"--hostname={name}@%h"])
