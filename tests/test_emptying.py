"""The tables between two tests that commit: empty, but for what Django itself puts there."""

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection

from chats.models import Message
from tests.emptying import LARGE_BYTES, empty_tables
from tests.factories import authorize, make_account, make_chat, make_user


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("messages", "is_large"), [(3, False), (3000, True)])
def test_nothing_is_left_of_few_rows_or_many(messages: int, is_large: bool) -> None:
    make_user("owner", "admin")
    account = make_account()
    authorize(account)
    chat = make_chat(account)
    Message.objects.bulk_create(
        Message(chat=chat, avito_id=str(number), direction="inbound", text="x" * 100, created_at=chat.created_at)
        for number in range(messages)
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_relation_size('chats_message')")
        assert (cursor.fetchone()[0] > LARGE_BYTES) is is_large
    empty_tables()
    assert {model for model in apps.get_models() if model._base_manager.exists()} == {Permission, ContentType}


@pytest.mark.django_db(transaction=True)
def test_a_permission_that_a_test_has_deleted_is_there_for_the_next() -> None:
    permissions = set(Permission.objects.values_list("content_type__model", "codename"))
    Permission.objects.filter(codename="add_user").delete()
    empty_tables()
    assert set(Permission.objects.values_list("content_type__model", "codename")) == permissions
