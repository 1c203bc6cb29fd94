"""JWT of both kinds: our own, and those that another service signs with the same secret."""

import hashlib
from typing import Any

import jwt
from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils.translation import gettext_lazy as _
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from api.models import ExternalIdentity
from api.roles import role_named, set_role

OUR_ISSUER = settings.SIMPLE_JWT["ISSUER"]
TOKEN_BYTES_MAX = 4096


class JWTAuthentication(BaseAuthentication):
    """`Authorization: Bearer <JWT>`, HS256 with JWT_SECRET."""

    def authenticate(self, request: Request) -> tuple[User, dict[str, Any]] | None:
        scheme, _space, token = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        claims = read_token(token.strip())
        user = our_user(claims) if claims.get("iss") == OUR_ISSUER else external_user(claims)
        if user is None or not user.is_active:
            raise AuthenticationFailed(_("There is no such user, or the user is blocked."), code="user_not_found")
        return user, claims

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'


class InvalidToken(AuthenticationFailed):
    default_detail = _("The token is not valid or has expired.")
    default_code = "token_not_valid"


def read_token(token: bytes) -> dict[str, Any]:
    """The claims of a token that is signed with our secret and in its time; InvalidToken for all others."""
    if not token or len(token) > TOKEN_BYTES_MAX:
        raise InvalidToken
    try:
        # The subject may be a number here, which the library's own check would refuse.
        options: Any = {"require": ["exp"], "verify_sub": False, "verify_jti": False}
        return jwt.decode(token, settings.JWT_SECRET, algorithms=["HS256"], options=options)
    except (jwt.PyJWTError, ValueError, RecursionError, OverflowError, TypeError):
        raise InvalidToken from None


def our_user(claims: dict[str, Any]) -> User | None:
    """The user of an access token of ours; a refresh token opens nothing."""
    user_id = str(claims.get("user_id", ""))
    if claims.get("token_type") != "access" or not user_id.isdecimal() or len(user_id) > 18:
        return None
    return User.objects.filter(id=int(user_id), external_identity=None).first()


def external_user(claims: dict[str, Any]) -> User:
    """The user provisioned for (issuer, subject), made at the first call; its role follows the claim every time."""
    issuer, subject = claims.get("iss", ""), claims.get("sub")
    if isinstance(subject, int) and not isinstance(subject, bool):
        subject = str(subject)
    if not isinstance(subject, str) or not 0 < len(subject) <= 255 or not isinstance(issuer, str) or len(issuer) > 255:
        raise AuthenticationFailed(_("The token names nobody."), code="token_not_valid")
    if "\0" in subject + issuer or not (subject + issuer).isprintable():
        raise AuthenticationFailed(_("The token names nobody."), code="token_not_valid")
    identity = ExternalIdentity.objects.select_related("user").filter(issuer=issuer, subject=subject).first()
    user = identity.user if identity else _provision(issuer, subject, claims.get("login"))
    set_role(user, role_named(claims.get("role")))
    return user


def _provision(issuer: str, subject: str, login: object) -> User:
    # The name is made of a hash, so that no subject can spell the name of one of our own users.
    name = "external-" + hashlib.sha256(f"{len(issuer)}:{issuer}:{subject}".encode()).hexdigest()[:32]
    shown = login[:150] if isinstance(login, str) and login.isprintable() else subject[:150]
    try:
        with transaction.atomic():
            user = User.objects.create_user(username=name, password=None, first_name=shown)
            ExternalIdentity.objects.create(issuer=issuer, subject=subject, user=user)
            return user
    except IntegrityError:  # two first calls at once: the other one has made it
        return ExternalIdentity.objects.select_related("user").get(issuer=issuer, subject=subject).user
