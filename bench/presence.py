"""Eternal online: signs of life at their times by a simulated clock, and their rate beside a bare client loop.

With --real the clock is the real one: worker processes keep the accounts online at the sandbox for some minutes, and
its journal is held against the schedule that was promised.
"""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser

from bench import rule
from bench.servers import beside_the_sandbox, measure


def main(arguments: list[str]) -> int:
    parser = ArgumentParser("python -m bench presence", formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--simulated", type=int, default=10_000, help="accounts under the simulated clock")
    parser.add_argument("--minutes", type=int, default=120, help="that the clock goes on; 20 in real time")
    parser.add_argument("--look", type=float, default=None, help="seconds between two looks (default: the setting)")
    parser.add_argument("--accounts", type=int, default=400, help="that are due at once, in real time")
    parser.add_argument("--rounds", type=int, default=rule.ROUNDS_MIN, help="of the comparison with a bare loop")
    parser.add_argument("--real", action="store_true", help="real time instead: workers, sandbox, its journal")
    parser.add_argument("--kept", type=int, default=10_000, help="accounts in real time")
    parser.add_argument("--dead", type=float, default=1.0, help="percent of them behind proxies that swallow all")
    parser.add_argument("--workers", type=int, default=2, help="processes in real time")
    parser.add_argument("--timeout", type=int, default=3, help="seconds that both sides wait behind the dead proxy")
    options = parser.parse_args(arguments)
    if options.real and options.minutes == parser.get_default("minutes"):
        options.minutes = 20
    module = "bench.presence_real" if options.real else "bench.presence_run"
    more = {"AVITO_TIMEOUT_SECONDS": str(options.timeout), "SANDBOX_STATUS_ONLINE_KNOWN": "true"}
    with beside_the_sandbox(LOG_LEVEL="CRITICAL", **more) as env:
        return measure(module, vars(options), env)
