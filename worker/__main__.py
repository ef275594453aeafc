"""One Celery worker: `python -P -m worker QUEUE NAME`, started by the supervisor with its device in the environment."""

import sys

from worker.main import main

main(sys.argv[1], sys.argv[2])
