"""Waiting webhook events turned into chats and messages: in batches, beside one by one."""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser

from bench import rule
from bench.servers import beside_the_sandbox, measure


def main(arguments: list[str]) -> int:
    parser = ArgumentParser("python -m bench inbox", formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000, help="that wait when a measurement begins")
    parser.add_argument("--chats", type=int, default=5_000)
    parser.add_argument("--accounts", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=rule.ROUNDS_MIN)
    parser.add_argument("--seconds", type=float, default=rule.SECONDS_MIN)
    parser.add_argument("--warmup", type=float, default=rule.WARMUP_MIN)
    options = parser.parse_args(arguments)
    with beside_the_sandbox(LOG_LEVEL="ERROR") as env:
        return measure("bench.inbox_run", vars(options), env)
