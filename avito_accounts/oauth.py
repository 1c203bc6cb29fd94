"""The OAuth flow: a link with a ticket, Avito's consent page, and the way back.

A request row lives through three moments: made (a ticket exists), opened (a state exists, bound to the browser that
opened it), finished (the state is burned, whatever the outcome). It is made for an account, or for a purpose of another
app's: then the account is found by whose token it is, or made.
"""

import hashlib
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import parse_qsl, urlencode, urlsplit

import structlog
from django.conf import settings
from django.contrib.auth.models import User
from django.core import signing
from django.db import IntegrityError, transaction
from django.http import QueryDict
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import constant_time_compare

import avito
from avito import auth
from avito.types import Owner
from avito_accounts import audit, services, tokens
from avito_accounts.errors import AccountNotAuthorized, AuthorizationRefused, MissingAvitoSecrets
from avito_accounts.models import Account, Authorization, AuthorizationRequest

log = structlog.get_logger(__name__)

TICKET_SECONDS = 300
STATE_SECONDS = 600
_tickets = signing.TimestampSigner(salt="avito-oauth-ticket")


@dataclass(frozen=True)
class Purpose:
    """What another app asks for consent for. Its requests have the purpose's name and a `subject_id` of the app's.

    `may`: may the person still do that? `authorized`: consent was given, and the account is connected.
    `page`: the name of the page of ours, of the subject, where the browser ends. `path_setting`: the setting with the
    path below FRONTEND_URL where it ends instead, if there is one; `{id}` is the subject.
    """

    name: str
    may: Callable[[AuthorizationRequest], bool]
    authorized: Callable[[AuthorizationRequest, Account], None]
    page: str
    path_setting: str = ""

    def way_back(self, request: AuthorizationRequest, error_code: str = "") -> str:
        """Where the browser ends, saying `oauth=success`, or `oauth=error` and the code."""
        if settings.FRONTEND_URL and self.path_setting:
            path = getattr(settings, self.path_setting).replace("{id}", str(request.subject_id))
            parts = urlsplit(settings.FRONTEND_URL + path)
        else:
            parts = urlsplit(reverse(self.page, args=[request.subject_id]))
        said = [(name, value) for name, value in parse_qsl(parts.query) if name != "oauth"]
        said += [("oauth", "error"), ("code", error_code)] if error_code else [("oauth", "success")]
        return str(parts._replace(query=urlencode(said)).geturl())


_purposes: dict[str, Purpose] = {}


def register(purpose: Purpose) -> None:
    """An app says once, at import, what it asks for consent for."""
    _purposes[purpose.name] = purpose


def purpose_of(request: AuthorizationRequest | None) -> Purpose | None:
    return _purposes.get(request.purpose) if request else None


def make_ticket(account: Account, *, user: User) -> str:
    """A signed word that opens the flow for this account once, within TICKET_SECONDS, without any other sign-in."""
    return _tickets.sign(str(AuthorizationRequest.objects.create(account=account, user=user).pk))


def link(purpose: str, subject_id: int, *, user: User, account: Account | None = None) -> str:
    """A link with a ticket that opens the flow for a purpose. `account`: whose token it has to be; None: anybody's."""
    request = AuthorizationRequest.objects.create(purpose=purpose, subject_id=subject_id, user=user, account=account)
    query = urlencode({"ticket": _tickets.sign(str(request.pk))})
    return f"{settings.PUBLIC_URL}{reverse('avito-authorize-purpose', args=[purpose])}?{query}"


def redeem(ticket: str, *, account_id: int | None = None, purpose: str = "") -> AuthorizationRequest | None:
    """The request behind an unused ticket, for this account or purpose; None for every other. A ticket works once."""
    try:
        request_id = int(_tickets.unsign(ticket, max_age=TICKET_SECONDS))
    except (signing.BadSignature, ValueError):
        return None
    unused = AuthorizationRequest.objects.filter(pk=request_id, purpose=purpose, opened_at=None)
    if not purpose:
        unused = unused.filter(account=account_id)
    if unused.update(opened_at=timezone.now()) != 1:
        return None
    return AuthorizationRequest.objects.select_related("account", "user").get(pk=request_id)


def request_for(account: Account, *, user: User) -> AuthorizationRequest:
    """A request opened right away by somebody who is signed in."""
    return AuthorizationRequest.objects.create(account=account, user=user, opened_at=timezone.now())


def consent_url(request: AuthorizationRequest, *, browser: str) -> str:
    """Where the browser goes to give consent. `browser` is the secret that only this browser keeps."""
    client_id, _secret = tokens.application_keys()
    state = secrets.token_urlsafe(32)
    request.state_hash, request.browser_hash = _hash(state), _hash(browser)
    request.save(update_fields=["state_hash", "browser_hash"])
    return auth.authorize_url(
        settings.AVITO_OAUTH_AUTHORIZE_URL,
        client_id=client_id,
        scopes=settings.AVITO_OAUTH_SCOPES,
        state=state,
        redirect_uri=settings.AVITO_OAUTH_REDIRECT_URI,
    )


def finish(query: QueryDict, *, browser: str) -> tuple[Account, AuthorizationRequest]:
    """What Avito's redirect brings: burn the state, exchange the code, see whose token it is, store it.

    Raises AuthorizationRefused; the account is then as it was.
    """
    states = query.getlist("state")
    try:
        request = _burn(states, browser=browser)
    except AuthorizationRefused as refused:
        refused.request = _last_of(states, browser=browser)
        raise
    purpose = purpose_of(request)
    try:
        if purpose and not purpose.may(request):
            raise AuthorizationRefused("invalid_state")
        account = _connect(request.account, query, keeps_wider=purpose is not None)
    except AuthorizationRefused as refused:
        refused.account_id, refused.request = request.account_id, request
        AuthorizationRequest.objects.filter(pk=request.pk).update(outcome=refused.code)
        log.warning("oauth_refused", account_id=request.account_id, code=refused.code)
        raise
    AuthorizationRequest.objects.filter(pk=request.pk).update(outcome="success", account=account)
    audit.note(account, "consent", user=request.user)
    if purpose:
        purpose.authorized(request, account)
    log.info("oauth_connected", account_id=account.pk)
    return account, request


def _burn(states: list[str], *, browser: str) -> AuthorizationRequest:
    """The open request of this state and browser. Whoever shows a state uses it up, right browser or not."""
    if len(states) != 1 or not states[0]:
        raise AuthorizationRefused("invalid_state")
    now = timezone.now()
    waiting = AuthorizationRequest.objects.filter(state_hash=_hash(states[0]), finished_at=None)
    request = waiting.select_related("account", "user").first()
    if request is None or waiting.update(finished_at=now, outcome="invalid_state") != 1:
        raise AuthorizationRefused("invalid_state")
    fresh = request.opened_at is not None and now - request.opened_at < timedelta(seconds=STATE_SECONDS)
    if not fresh or not constant_time_compare(request.browser_hash, _hash(browser)):
        raise AuthorizationRefused("invalid_state")
    return request


def _last_of(states: list[str], *, browser: str) -> AuthorizationRequest | None:
    """For the way back alone: what a bad state was once made for, or else what this browser was last at."""
    known = AuthorizationRequest.objects.order_by("-pk")
    by_state = known.filter(state_hash__in=[_hash(state) for state in states]).first()
    return by_state or known.filter(browser_hash=_hash(browser)).first()


def last_consent(purposes: Collection[str], subject_id: int, *, user: User) -> AuthorizationRequest | None:
    """The last consent that this person has given for a subject; it has the account."""
    given = AuthorizationRequest.objects.filter(
        purpose__in=purposes, subject_id=subject_id, user=user, outcome="success"
    )
    return given.order_by("-finished_at").first()


def _connect(account: Account | None, query: QueryDict, *, keeps_wider: bool) -> Account:
    """`keeps_wider`: a living authorisation that may do more than the new one stays in its place."""
    if query.get("error"):
        raise AuthorizationRefused("access_denied")
    codes = query.getlist("code")
    if len(codes) != 1 or not codes[0]:
        raise AuthorizationRefused("missing_code")
    asking = account or Account()  # nobody's proxy, while nobody knows whose consent it is
    try:
        client_id, client_secret = tokens.application_keys()
        transport = tokens.transport_for(asking)
        tokens.release_connection()
        token = auth.exchange_code(transport, client_id=client_id, client_secret=client_secret, code=codes[0])
        owner = tokens.client_for(asking, token.access_token).user.me()
    except (avito.AvitoError, MissingAvitoSecrets) as error:
        log.warning("oauth_exchange_failed", account_id=asking.pk, error=type(error).__name__)
        raise AuthorizationRefused("exchange_failed") from None
    if account is None:
        account = _account_of(owner)
    else:
        _claim(account, owner.id)
    if keeps_wider and _may_more(account, token):
        return account
    try:
        tokens.store(account, token, kind=Authorization.Kind.OAUTH)
    except AccountNotAuthorized:
        raise AuthorizationRefused("invalid_state") from None
    services.queue_after_connecting(account)
    return account


def _account_of(owner: Owner) -> Account:
    """The account of this profile at Avito; a new one is named after it."""
    known = Account.objects.filter(avito_user_id=owner.id)
    name = f"{owner.name.strip()[:90]} ({owner.id})".strip()
    try:
        with transaction.atomic():
            return known.first() or services.save(Account(name=name, avito_user_id=owner.id), set())
    except IntegrityError:  # made meanwhile, or another account has that very name
        found = known.first()
        return found or services.save(Account(name=secrets.token_hex(4) + " " + name, avito_user_id=owner.id), set())


def _may_more(account: Account, token: avito.Token) -> bool:
    """An authorisation that Avito has refused may do nothing, whatever it was given for."""
    alive = Authorization.objects.filter(account=account, dead_reason="")
    stored = alive.exclude(account__connection_status=Account.ConnectionStatus.NEEDS_RECONNECT).first()
    return stored is not None and not set(stored.scopes) <= set(token.scopes)


def _claim(account: Account, user_id: int) -> None:
    """Write down whose token it is; refuse another person's."""
    try:
        with transaction.atomic():
            row = Account.objects.select_for_update().get(pk=account.pk)
            if row.avito_user_id is None:
                row.avito_user_id = user_id
                row.save(update_fields=["avito_user_id", "updated_at"])
            elif row.avito_user_id != user_id:
                raise AuthorizationRefused("account_mismatch")
    except IntegrityError:
        raise AuthorizationRefused("user_id_taken") from None
    except Account.DoesNotExist:
        raise AuthorizationRefused("invalid_state") from None
    account.avito_user_id = user_id


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
