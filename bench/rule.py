"""The rule by which two rates are compared: rounds, ratios, spreads, and when not to judge. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

ROUNDS_MIN = 5
SECONDS_MIN = 10.0
WARMUP_MIN = 5.0
BASELINE_SPREAD_MAX = 0.25


@dataclass(frozen=True)
class Round:
    baseline: float
    ours: float

    @property
    def ratio(self) -> float:
        return self.ours / self.baseline if self.baseline else float("inf")


@dataclass(frozen=True)
class Goal:
    """What the median ratio should reach; `least` must be, `target` would be good."""

    least: float
    target: float


def order(index: int) -> tuple[str, str]:
    """Who goes first takes turns (ABBA), so that a machine that gets slower favours nobody."""
    return ("baseline", "ours") if index % 2 == 0 else ("ours", "baseline")


def spread(values: Sequence[float]) -> float:
    """The distance from the lowest to the highest, as a share of the median."""
    return (max(values) - min(values)) / median(values) if median(values) else float("inf")


def summary(rounds: Sequence[Round]) -> str:
    ratios = [one.ratio for one in rounds]
    return (
        f"median ratio {median(ratios):.1f}x, {min(ratios):.1f}x to {max(ratios):.1f}x (spread {spread(ratios):.0%}); "
        f"spread of the baseline {spread([one.baseline for one in rounds]):.0%}, "
        f"of ours {spread([one.ours for one in rounds]):.0%}"
    )


def verdict(rounds: Sequence[Round], goal: Goal, *, seconds: float, warmup: float, refused: int) -> str:
    """One line: judged, or why not. `refused`: how many requests were not answered with 200."""
    ratio = median(one.ratio for one in rounds)
    baseline_spread = spread([one.baseline for one in rounds])
    if len(rounds) < ROUNDS_MIN or seconds < SECONDS_MIN or warmup < WARMUP_MIN:
        return (
            f"No verdict: it takes {ROUNDS_MIN} rounds of {SECONDS_MIN:.0f} s, each after {WARMUP_MIN:.0f} s warm-up."
        )
    if refused:
        return f"No verdict: {refused} requests were not answered with 200."
    if baseline_spread > BASELINE_SPREAD_MAX:
        return (
            f"No verdict: the baseline itself varied by {baseline_spread:.0%}, more than {BASELINE_SPREAD_MAX:.0%}. "
            "Run it again on a quieter machine."
        )
    ratios = [one.ratio for one in rounds]
    if min(ratios) < goal.least <= max(ratios):
        side = "over" if ratio >= goal.least else "under"
        return (
            f"UNCERTAIN: the median of {ratio:.1f}x is {side} the goal of {goal.least:.0f}x, "
            f"but single rounds lie on both sides of it ({min(ratios):.1f}x to {max(ratios):.1f}x)."
        )
    if ratio < goal.least:
        return f"MISSED: {ratio:.1f}x is under the goal of {goal.least:.0f}x."
    reached = "and the target" if ratio >= goal.target else "but not the target"
    return f"REACHED: {ratio:.1f}x is over the goal of {goal.least:.0f}x, {reached} of {goal.target:.0f}x."
