"""Acknowledged webhooks per second: our endpoint against a naive DRF view, both durable."""

import json
import os
import subprocess
import sys
import tempfile
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser, Namespace
from dataclasses import asdict
from itertools import count
from pathlib import Path

from bench import rule
from bench.load import DRAIN_SECONDS, Job, Result
from bench.servers import ROOT, Side, both_sides
from config.supervisor import Failed

GOAL = rule.Goal(least=12, target=16)
GOAL_CONNECTIONS = 32
TITLES = {"baseline": "naive DRF", "ours": "ours"}


def main(arguments: list[str]) -> int:
    """0, or 1 when an acknowledged event is not stored."""
    options = _options(arguments)
    with both_sides(options.processes) as sides:
        print(f"PostgreSQL: {sides['ours'].durability()}")
        print(
            f"{options.rounds} rounds of {options.seconds:g} s after {options.warmup:g} s warm-up each, "
            f"{options.processes} server process(es) a side, {os.cpu_count()} cores"
        )
        benchmark = Benchmark(sides, options)
        for connections in options.connections:
            benchmark.compare(connections)
    if benchmark.lost:
        print(f"\nLOST: {benchmark.lost} acknowledged events are not stored.")
    else:
        print(f"\n{benchmark.acknowledged} events were acknowledged; all acknowledged are stored.")
    print("Load, servers and database share the cores of this machine: only ratios mean anything.")
    return 1 if benchmark.lost else 0


class Benchmark:
    def __init__(self, sides: dict[str, Side], options: Namespace) -> None:
        self._sides, self._options = sides, options
        self._turns = count(1)
        self.acknowledged = self.lost = 0

    def compare(self, connections: int) -> None:
        """All rounds with so many connections; prints as it goes."""
        options = self._options
        print(f"\n{connections} connection(s)")
        print("  round   naive DRF/s   p50 ms   p99 ms      ours/s   p50 ms   p99 ms    ratio")
        rounds, refused = [], 0
        for index in range(options.rounds):
            results = {name: self._turn(self._sides[name], connections) for name in rule.order(index)}
            baseline, ours = results["baseline"], results["ours"]
            rounds.append(rule.Round(baseline.rate, ours.rate))
            refused += baseline.refused + ours.refused
            print(f"  {index + 1:>5}   {_columns(baseline)} {_columns(ours)} {rounds[-1].ratio:>7.1f}x", flush=True)
            for name, result in results.items():
                if result.refused:
                    print(f"          {TITLES[name]}: {result.refused} requests were not answered with 200")
        print(f"  {rule.summary(rounds)}")
        if connections == GOAL_CONNECTIONS:
            print(f"  {rule.verdict(rounds, GOAL, seconds=options.seconds, warmup=options.warmup, refused=refused)}")

    def _turn(self, side: Side, connections: int) -> Result:
        """Load one side, alone, then see that everything acknowledged is there."""
        before = side.last_row()
        with tempfile.NamedTemporaryFile() as acknowledged:
            job = Job(
                side.web.port,
                side.path,
                connections,
                self._options.warmup,
                self._options.seconds,
                next(self._turns),
                acknowledged.name,
            )
            result = _post(job)
            ids = set(Path(job.acknowledged).read_text().split())
        if side.web.status() is not None:
            raise Failed(side.web.obituary())
        self.acknowledged += len(ids)
        self.lost += len(ids - side.ids_stored_after(before))
        side.tidy()
        return result


def _post(job: Job) -> Result:
    process = subprocess.run(
        [sys.executable, "-m", "bench.load"],
        input=json.dumps(asdict(job)),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=job.warmup + job.seconds + 2 * DRAIN_SECONDS,
    )
    if process.returncode != 0:
        raise Failed(f"The load ended with status {process.returncode}:\n{process.stderr[-2000:]}")
    return Result(**json.loads(process.stdout))


def _columns(result: Result) -> str:
    return f"{result.rate:>11,.0f} {result.p50_ms:>8.1f} {result.p99_ms:>8.1f}"


def _options(arguments: list[str]) -> Namespace:
    parser = ArgumentParser("python -m bench webhook_ack", formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rounds", type=_positive, default=rule.ROUNDS_MIN)
    parser.add_argument("--seconds", type=float, default=rule.SECONDS_MIN, help="length of each measurement")
    parser.add_argument("--warmup", type=float, default=rule.WARMUP_MIN, help="seconds of load before each measurement")
    parser.add_argument(
        "--connections", type=_numbers, default=[GOAL_CONNECTIONS], help="one number or several: 1,8,32"
    )
    parser.add_argument("--processes", type=_positive, default=1, help="server processes of each side")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def _numbers(text: str) -> list[int]:
    return [_positive(part) for part in text.split(",")]
