"""`python -m bench.fill CHATS MESSAGES`: seed the empty database of DATABASE_URL, to see the service at that size."""

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from bench.chats_seed import seed  # noqa: E402
from chats.models import Chat  # noqa: E402

if __name__ == "__main__":
    if len(sys.argv) != 3 or Chat.objects.exists():
        sys.exit(f"{__doc__}\nNothing is done to a database that holds chats.")
    seed(chats=int(sys.argv[1]), messages=int(sys.argv[2]))
