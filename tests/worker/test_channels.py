"""A connection that the broker refuses is closed: a consumer tries again many times a second."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu.asynchronous import Hub
from kombu.transport.redis import Transport
from redis.exceptions import ReadOnlyError

from tests.chaos.servers import Broker
from worker.app import make_app
from worker.channels import close_refused
from worker.settings import Settings


@pytest.fixture
def broker() -> Iterator[Broker]:
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder))  # here, because a socket's path has to be short
        broker.start()
        yield broker
        broker.stop()


def test_a_connection_that_a_read_only_broker_refuses_is_closed(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transport, "register_with_event_loop", Transport.register_with_event_loop)  # back at the end
    close_refused()
    with broker.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        before = len(client.client_list())
        made = make_app(Settings(home=tmp_path, broker_url=f"redis+socket://{broker.socket}")).connection_for_read()
        with pytest.raises(ReadOnlyError):
            made.transport.register_with_event_loop(made.connection, Hub())
        assert len(client.client_list()) == before
