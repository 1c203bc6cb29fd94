"""The state in a file, for a sandbox that stands beside an installation: what was agreed there outlives a restart."""

import asyncio
import os
import pickle
from pathlib import Path
from typing import Any

from sandbox.state import World

EVERY_SECONDS = 5.0
FORGOTTEN = {"_initial_settings", "journal", "rent_calls", "windows"}
"""What only tests ask for, or counts calls of the last minute."""


class Kept:
    """Writes the state down from time to time; only the event loop's thread touches it."""

    def __init__(self, world: World, path: Path) -> None:
        self._world, self._path = world, path
        self._written = b""

    def load(self) -> None:
        """As it was when it was last written; a file that another version has written counts as none."""
        try:
            # Our own file, readable by nobody else: see `save`.
            kept: dict[str, Any] = pickle.loads(self._path.read_bytes())
        except FileNotFoundError:
            return
        except Exception as error:
            print(f"The sandbox begins anew: {self._path} cannot be read ({type(error).__name__}).")  # noqa: T201
            return
        initial = self._world.settings.as_json()
        self._world.__dict__.update(kept)
        self._world.settings.update(initial)

    def save(self) -> None:
        state = {name: value for name, value in vars(self._world).items() if name not in FORGOTTEN}
        said = pickle.dumps(state)
        if said == self._written:
            return
        draft = self._path.with_suffix(".new")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(said)
        draft.replace(self._path)
        self._written = said

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            self.save()
