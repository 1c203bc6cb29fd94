"""How often calls may come: windows that slide."""

from collections import defaultdict, deque
from collections.abc import Hashable


class Windows:
    """The moments of the calls let through lately, by what is counted."""

    def __init__(self) -> None:
        self._calls: defaultdict[Hashable, deque[float]] = defaultdict(deque)

    def admit(self, counted: Hashable, most: float, seconds: float, at: float) -> bool:
        """Note a call at the unix time `at`, unless `most` came in the `seconds` before: that one does not count."""
        calls = self._calls[counted]
        while calls and calls[0] <= at - seconds:
            calls.popleft()
        if len(calls) >= most:
            return False
        calls.append(at)
        return True

    def left(self, counted: Hashable, most: float) -> int:
        """How many more calls the window would have let through when it was last looked at."""
        return max(0, int(most) - len(self._calls[counted]))
