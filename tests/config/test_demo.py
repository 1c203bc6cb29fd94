"""`manage.py demo`: an empty installation is filled by way of the sandbox, and no other is touched."""

from collections.abc import Callable
from io import StringIO

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command

from avito_accounts.models import Account, DailyStats
from chats.models import Chat, Message
from integrations_str.models import Booking, Conflict, Integration, Property
from messenger.models import PresenceAttempt
from notifications.models import Notification
from tests.factories import make_account, make_user


def test_a_demonstration_has_something_for_every_page(demo: Callable[[], object], product: str) -> None:
    make_user("boss", is_superuser=True)
    demo()
    assert sorted(Account.objects.values_list("connection_status", flat=True)) == [
        "connected", "connected", "error", "needs_reconnect",
    ]  # fmt: skip
    assert DailyStats.objects.filter(account__name="Уют").count() > 30
    assert PresenceAttempt.objects.count() == 2
    assert Chat.objects.filter(unread_count__gt=0).exists()
    assert set(
        Message.objects.filter(direction="outbound", is_live=True).values_list("delivery_status", flat=True)
    ) <= {"sent"}
    assert Property.objects.count() == 4
    assert Integration.objects.connected().count() == 3
    assert Booking.objects.filter(source="avito", status="pending").exists()
    assert Conflict.objects.filter(solved_at=None).count() == 1
    assert Notification.objects.filter(kind__contains="conflict").exists()
    with pytest.raises(CommandError, match="needs an empty one"):
        demo()


def test_a_demonstration_needs_somebody_whose_it_is(demo: Callable[[], object], product: str) -> None:
    with pytest.raises(CommandError, match="no superuser"):
        demo()


def test_with_avito_itself_nothing_is_demonstrated(product: str, settings: LazySettings) -> None:
    settings.AVITO_IS_SANDBOX = False
    make_user("boss", is_superuser=True)
    with pytest.raises(CommandError, match="talks to Avito itself"):
        call_command("demo", stdout=StringIO())
    assert not Account.objects.exists()


def test_what_somebody_has_entered_is_left_alone(demo: Callable[[], object], product: str) -> None:
    make_user("boss", is_superuser=True)
    make_account(name="Настоящий")
    with pytest.raises(CommandError, match="needs an empty one"):
        demo()
    assert Account.objects.get().name == "Настоящий"
