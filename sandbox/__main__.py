"""`python -m sandbox [--host HOST] [--port PORT] [--state FILE]`; SANDBOX_HOST and SANDBOX_PORT mirror the options."""

import argparse
import os
from pathlib import Path

from sandbox.server import server


def main() -> None:
    parser = argparse.ArgumentParser(prog="sandbox", description="A small stand-in for Avito")
    parser.add_argument("--host", default=os.environ.get("SANDBOX_HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("SANDBOX_PORT", "5005")))
    parser.add_argument("--state", type=Path, help="a file that keeps what happens; without it all is forgotten")
    parser.add_argument("--log-level", default=os.environ.get("SANDBOX_LOG_LEVEL", "warning"))
    options = parser.parse_args()
    print(f"Avito sandbox: http://{options.host}:{options.port}/", flush=True)  # noqa: T201
    server(host=options.host, port=options.port, log_level=options.log_level, state=options.state).run()


if __name__ == "__main__":
    main()
