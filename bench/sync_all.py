"""Figures of all accounts: calls to Avito beside the fewest that its limits allow, queries, and a bare client loop."""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser

from bench import rule
from bench.servers import beside_the_sandbox, measure


def main(arguments: list[str]) -> int:
    parser = ArgumentParser("python -m bench sync_all", formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--accounts", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=rule.ROUNDS_MIN, help="of the comparison with a bare loop")
    parser.add_argument("--lanes", type=int, default=4, help="threads of each side")
    options = parser.parse_args(arguments)
    with beside_the_sandbox(LOG_LEVEL="ERROR") as env:
        return measure("bench.syncing", vars(options), env)
