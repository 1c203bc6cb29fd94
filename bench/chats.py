"""Stored chats by the million: pages at depth, filters, search and what its index costs, each beside the plain way."""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser

from bench import rule
from bench.servers import beside_the_sandbox, measure


def main(arguments: list[str]) -> int:
    parser = ArgumentParser("python -m bench chats", formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--chats", type=int, default=1_000_000)
    parser.add_argument("--messages", type=int, default=10_000_000, help="about 7 GB and ten minutes for ten million")
    parser.add_argument("--large", type=int, default=30_000, help="messages of the idle and of the busy chat")
    parser.add_argument("--depth", type=int, default=200_000, help="of the page, in a chat with a 40th of all messages")
    parser.add_argument("--rounds", type=int, default=rule.ROUNDS_MIN, help="of each comparison")
    parser.add_argument("--times", type=int, default=20, help="that each filter is asked for")
    options = parser.parse_args(arguments)
    with beside_the_sandbox(LOG_LEVEL="CRITICAL") as env:
        return measure("bench.chats_run", vars(options), env)
