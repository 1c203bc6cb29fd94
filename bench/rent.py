"""Short-term rent: calls a change, latency and import delays beside polling, drain rate beside a bare client loop.

Six parts, all against the sandbox; the README says what each means. `latency`, `polling` and `silence` run the real
processes in real time, the web and one worker, with the budget of calls as shipped.
"""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser

from bench import rule
from bench.servers import beside_the_sandbox, measure

PARTS = ("calls", "queries", "drain", "latency", "polling", "silence")


def main(arguments: list[str]) -> int:
    parser = ArgumentParser("python -m bench rent", formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="which, by commas")
    parser.add_argument("--drained", type=int, default=300, help="connections with one changed day each")
    parser.add_argument("--rounds", type=int, default=rule.ROUNDS_MIN, help="of the comparison with a bare loop")
    parser.add_argument("--queued", default="1000,10000", help="rows in the queue that is claimed from, by commas")
    parser.add_argument("--connections", type=int, default=500, help="that are polled while people book and edit")
    parser.add_argument("--changes", type=int, default=200, help="bookings, and as many edits")
    parser.add_argument(
        "--silent", type=int, default=20, help="bookings after Redis has stopped, with as many connections"
    )
    parser.add_argument("--polled", type=int, default=900, help="connections under the sandbox's limit of calls")
    parser.add_argument("--minutes", type=float, default=5, help="that they are polled")
    options = parser.parse_args(arguments)
    options.parts = options.parts.split(",")
    options.queued = [int(count) for count in options.queued.split(",")]
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    with beside_the_sandbox(LOG_LEVEL="CRITICAL") as env:
        return measure("bench.rent_run", vars(options), env)
