"""`manage.py demo`: fill an empty installation that talks to the sandbox, to look around in."""

from argparse import ArgumentParser
from typing import Any
from urllib.error import URLError

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from api.middleware import MOSCOW
from config import demo

ANEW = f"end the service, remove {settings.DATA_DIR}, start it again, and then this."


class Command(BaseCommand):
    help = "Fill an empty installation with accounts, chats and properties of the sandbox, troubles included."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", default="", help="whose the properties are; the first superuser if not said")

    def handle(self, *args: Any, user: str, **options: Any) -> None:
        if not settings.AVITO_IS_SANDBOX:
            raise CommandError("This installation talks to Avito itself: a demonstration is for the sandbox alone.")
        people = User.objects.filter(username=user) if user else User.objects.filter(is_superuser=True)
        owner = people.order_by("pk").first()
        if owner is None:
            raise CommandError(f"There is nobody called {user}." if user else "There is no superuser yet.")
        try:
            with timezone.override(MOSCOW):
                demo.fill(owner, say=lambda step: self.stdout.write(f"{step} …"))
        except demo.NotEmpty:
            raise CommandError(
                "There are accounts or properties already. A demonstration needs an empty one."
            ) from None
        except URLError as error:
            raise CommandError(f"The sandbox does not answer ({error.reason}). Start it: make run.") from None
        self.stdout.write(f"Done. Open {settings.PUBLIC_URL}/admin/")
