"""The system's Chromium, for whoever drives it."""

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def launch(play: "Playwright") -> "Browser":
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    return play.chromium.launch(executable_path=CHROMIUM, args=flags)
