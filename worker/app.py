"""The Celery app: broker, queues, JSON. Imports nothing heavy, so that the API may import it.

Redis carries hints only (docs/decisions/0002), so an early acknowledgement loses nothing, and everything that could
resend, restore or hold back a message is off.
"""

from celery import Celery
from kombu import Queue

from worker.settings import Settings

QUEUES = ("classify", "train")
DRAIN = "pixmill.drain"  # explicit task names: they are part of the contract between versions


def make_app(settings: Settings) -> Celery:
    """The Celery app for a broker. Connects to nothing."""
    app = Celery("pixmill", broker=settings.broker, set_as_current=False)
    app.conf.update(
        include=["worker.tasks"],
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=False,
        task_reject_on_worker_lost=False,
        task_queues=[Queue(name) for name in QUEUES],
        task_default_queue=QUEUES[0],
        task_create_missing_queues=False,
        task_publish_retry=False,  # the sweeper rings again
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_concurrency=1,
        worker_pool="prefork",
        worker_proc_alive_timeout=300,  # the default of 4 s kills slow replacements for ever (celery#4323)
        worker_max_tasks_per_child=None,
        worker_lost_wait=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # survive OOM, READONLY and MISCONF replies
        broker_connection_timeout=3,
        broker_transport_options={
            "visibility_timeout": 3600,
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "retry_on_timeout": False,
            "global_keyprefix": "pixmill:",
        },
    )
    return app
