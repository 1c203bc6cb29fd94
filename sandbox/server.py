"""The sandbox as a server: in this process's main thread, or in a thread beside tests."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from sandbox.app import create_app
from sandbox.settings import Settings


def server(
    settings: Settings | None = None, *, host: str, port: int, log_level: str = "warning", state: Path | None = None
) -> uvicorn.Server:
    """Connections left open, as by a fault that keeps silent, hold the end up for one second at most."""
    app = create_app(settings, state)
    config = uvicorn.Config(app, host=host, port=port, log_level=log_level, timeout_graceful_shutdown=1, lifespan="on")
    return uvicorn.Server(config)


@contextmanager
def running(settings: Settings | None = None, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """A sandbox in a thread; gives its address, `http://127.0.0.1:<port>`. Port 0: any free one."""
    # The protocol is named because asyncio sets TCP_NODELAY only on sockets that name it; without, calls take 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind((host, port))
    listener.listen(1024)
    served = server(settings or Settings(), host=host, port=port, log_level="error")
    # Listening starts here, so a call made at once waits for the server instead of failing.
    thread = threading.Thread(target=served.run, args=([listener],), name="sandbox", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        served.should_exit = True
        thread.join(10)
        listener.close()
