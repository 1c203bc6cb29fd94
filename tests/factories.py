"""Data by plain functions, and always the same people: owner (admin), colleague (operator), stranger (no role)."""

import itertools
from datetime import timedelta
from typing import Any

from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import Group, User
from django.utils import timezone

import avito
from api.roles import HOSTS, PERMISSIONS, Role, set_role
from avito_accounts import jobs, tasks, tokens
from avito_accounts.models import Account, Authorization, Job, Proxy
from chats.models import Chat, Message

_numbers = itertools.count(1)
PASSWORD = "correct horse battery staple"


class QuickHasher(PBKDF2PasswordHasher):
    """What Django and its other processes recognise, without being slow by design."""

    iterations = 1


def make_user(name: str, role: Role | None = None, **fields: Any) -> User:
    # Emptied tables have no roles either.
    Group.objects.bulk_create([Group(name=name) for name in (*PERMISSIONS, HOSTS)], ignore_conflicts=True)
    user = User.objects.create_user(username=name, password=PASSWORD, **fields)
    set_role(user, role)
    return user


def make_account(**fields: Any) -> Account:
    number = next(_numbers)
    return Account.objects.create(**{"name": f"Account {number}", "avito_user_id": 900_000 + number, **fields})


def make_proxy(**fields: Any) -> Proxy:
    return Proxy.objects.create(**{"type": "http", "host": "127.0.0.1", "port": 9, **fields})


def authorize(
    account: Account,
    *,
    access_token: str = "access",
    refresh_token: str = "refresh",
    expires_in: int = 86_400,
    age: timedelta = timedelta(0),
) -> Authorization:
    """Give an account a pair of tokens, made `age` ago."""
    token = avito.Token(access_token, refresh_token, expires_in, ("messenger:read", "messenger:write"))
    authorization = tokens.store(account, token, kind=Authorization.Kind.OAUTH)
    if age:
        Authorization.objects.filter(pk=authorization.pk).update(
            expires_at=authorization.expires_at - age, refresh_at=authorization.refresh_at - age
        )
    return Authorization.objects.get(pk=authorization.pk)


def make_chat(account: Account | None = None, **fields: Any) -> Chat:
    values = {
        "account": account,
        "avito_user_id": (account.avito_user_id if account else None) or 0,
        "avito_id": f"u2i-chat-{next(_numbers)}",
        "name": "Пётр",
    }
    return Chat.objects.create(**{**values, **fields})


def make_message(chat: Chat, **fields: Any) -> Message:
    values = {
        "avito_user_id": chat.avito_user_id,
        "avito_id": f"message-{next(_numbers)}",
        "direction": Message.Direction.INBOUND,
        "text": "Здравствуйте!",
        "created_at": timezone.now(),
    }
    return Message.objects.create(chat=chat, **{**values, **fields})


def look_after_webhook(account_id: int) -> None:
    """As a worker does it, now."""
    jobs.queue(Job.Kind.SUBSCRIBE, Account.objects.filter(pk=account_id))
    tasks.work_jobs()
