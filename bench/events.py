"""Live events: how soon the last of many idle listeners hears, and what each of them costs, beside polling streams."""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser

from bench import rule
from bench.servers import beside_the_sandbox, measure


def main(arguments: list[str]) -> int:
    parser = ArgumentParser("python -m bench events", formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--listeners", type=int, default=2000, help="open streams, on one process of each side")
    parser.add_argument("--rounds", type=int, default=rule.ROUNDS_MIN, help="of the comparison")
    parser.add_argument("--events", type=int, default=10, help="of each side in a round, one after the other")
    parser.add_argument("--settle", type=float, default=2.0, help="seconds of rest before each measurement")
    options = parser.parse_args(arguments)
    with beside_the_sandbox(LOG_LEVEL="CRITICAL") as env:
        return measure("bench.events_run", vars(options), env)
