"""Tickets: a browser's EventSource cannot send headers, so it opens a stream with a word that works once."""

import hashlib
import secrets
from datetime import timedelta
from typing import Any, NamedTuple

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from notifications.models import Ticket

EXPIRES_SECONDS = 60


class Standing(NamedTuple):
    """How long an identity holds. `until`: Unix time at which its token expires, None for none. `session_key`: of the
    session that must live, "" for none."""

    until: float | None
    session_key: str


def standing_of(request: Request) -> Standing:
    """By what the caller is known: a ticket, a token or a session."""
    if isinstance(request.auth, Ticket):
        return Standing(request.auth.until, request.auth.session_key)
    if isinstance(request.auth, dict):
        return Standing(float(request.auth["exp"]), "")
    return Standing(None, request.session.session_key or "")


def issue(user: User, standing: Standing) -> str:
    """A new ticket. The stream that it opens ends when the identity that asked for it does."""
    ticket = secrets.token_urlsafe(32)
    expires_at = timezone.now() + timedelta(seconds=EXPIRES_SECONDS)
    Ticket.objects.create(digest=_digest(ticket), user=user, expires_at=expires_at, **standing._asdict())
    return ticket


def redeem(ticket: str) -> Ticket | None:
    """The ticket's row, for the one who comes first and in time; it is gone afterwards."""
    with transaction.atomic():
        rows = Ticket.objects.select_for_update(of=("self",)).select_related("user")
        found = rows.filter(digest=_digest(ticket), expires_at__gt=timezone.now()).first()
        if found is not None:
            Ticket.objects.filter(pk=found.pk).delete()
        return found


def _digest(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode(errors="replace")).digest()


class TicketAuthentication(BaseAuthentication):
    """`?ticket=`, from `POST /events/ticket`."""

    def authenticate(self, request: Request) -> tuple[User, Ticket] | None:
        given = request.query_params.get("ticket")
        if given is None:
            return None
        ticket = redeem(given)
        if ticket is None or not ticket.user.is_active:
            raise AuthenticationFailed(_("The ticket is not valid, was used, or has expired."), code="token_not_valid")
        return ticket.user, ticket

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'


class TicketScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "notifications.tickets.TicketAuthentication"
    name = "ticket"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "query", "name": "ticket"}
