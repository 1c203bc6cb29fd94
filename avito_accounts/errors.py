"""Why an account cannot be used, and the one name and the words that each failure has outside."""

from typing import Any

from django.utils.translation import gettext_lazy as _

import avito

KEYS_REFUSED = "invalid_client"
"""The code of an account whose own keys Avito has refused; they wait for a person."""


class AccountUnusable(Exception):
    """Nothing was asked of Avito, since nothing could come of it."""


class AccountNotAuthorized(AccountUnusable):
    """The account has neither tokens nor keys of its own, or no number at Avito yet."""


class WrongOwner(AccountNotAuthorized):
    """The token belongs to another profile at Avito, or to one that another account here holds; `code` says which."""

    def __init__(self, code: str = "account_mismatch") -> None:
        super().__init__(code)
        self.code = code


class ReconnectRequired(AccountUnusable):
    """The authorisation is dead for good: a person has to give consent again."""


class MissingAvitoSecrets(AccountUnusable):
    """The installation has no id or secret of an OAuth application."""


class Undecryptable(AccountUnusable):
    """No key of FIELD_ENCRYPTION_KEYS opens this ciphertext in this row. The stored value is left as it is."""


class AuthorizationRefused(Exception):
    """An OAuth flow ended without a connection; `code` is stable, the rest is known once the state was good."""

    def __init__(self, code: str, account_id: int | None = None) -> None:
        super().__init__(code)
        self.code, self.account_id = code, account_id
        self.request: Any = None


# The first line that fits counts, so a special case stands above the general one.
_CODES: tuple[tuple[type[Exception], str], ...] = (
    (AccountNotAuthorized, "account_not_authorized"),
    (ReconnectRequired, "reconnect_required"),
    (MissingAvitoSecrets, "missing_avito_secrets"),
    (Undecryptable, "secrets_unreadable"),
    (avito.ProxyFailed, "proxy_failed"),
    (avito.TimedOut, "avito_timeout"),
    (avito.RateLimited, "avito_rate_limited"),
    (avito.Invalid, "avito_rejected"),
    (avito.SubscriptionRequired, "avito_subscription_required"),
    (avito.Forbidden, "avito_forbidden"),
    (avito.NotFound, "avito_not_found"),
    (avito.Unauthorized, "reconnect_required"),
    (avito.InvalidGrant, "reconnect_required"),
    (avito.InvalidClient, "reconnect_required"),
    (avito.AvitoError, "avito_unavailable"),
)


def code_of(error: Exception) -> str:
    """The stable code of a failure of ours or Avito's, in answers and in rows; "error" for every other exception."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), "error")


PROXY_REASONS: dict[str, Any] = {
    "auth": _("the proxy does not accept the login or the password; correct them"),
    "unreachable": _("the proxy cannot be reached, or does not reach Avito; check host and port, or ask its provider"),
    "timeout": _("the proxy did not answer in time; ask its provider, or choose another one"),
    "protocol": _("what answers there does not speak this kind of proxy; check type and port"),
    "forbidden": _("the proxy's host leads into a private or reserved network, which is not allowed"),
    "unreadable": _("no key in FIELD_ENCRYPTION_KEYS opens the proxy's password; give back the key, or type it again"),
}
"""What each `ProxyFailed.reason` means to the person who can do something about it."""

WORDS: dict[str, Any] = {
    "account_not_authorized": _("The account is not connected to Avito. Connect it first."),
    "reconnect_required": _("Token expired. Please reconnect."),
    "token_expired": _("Token expired. Please reconnect."),
    "invalid_client": _("Avito refuses the account's own client id and secret."),
    "user_id_taken": _("Another account here already belongs to this profile at Avito."),
    "account_mismatch": _("The keys belong to another profile at Avito."),
    "missing_avito_secrets": _("AVITO_OAUTH_CLIENT_ID or AVITO_OAUTH_CLIENT_SECRET is missing in the environment."),
    "secrets_unreadable": _(
        "No key in FIELD_ENCRYPTION_KEYS opens the account's secrets. Give back the key that is missing."
    ),
    "avito_rejected": "%(text)s",
    "avito_subscription_required": "%(text)s",
    "avito_forbidden": _("Avito refuses: %(text)s"),
    "avito_not_found": _("Avito does not know it: %(text)s"),
    "avito_rate_limited": _("Avito asks for a pause. Try again later."),
    "avito_unavailable": _("Avito is not available or answered unreadably. Try again later."),
    "avito_timeout": _("Avito did not answer in time."),
    "proxy_failed": _("The account's proxy failed: %(text)s."),
    "worker_died": _("The worker stopped in the middle several times. Look into its log."),
    "error": _("Something broke on our side. The log has the request's id."),
}
"""What each code means to people; `text` is what `text_of` gives."""


def text_of(error: Exception) -> str:
    """What goes with the code into a row: Avito's own text, or the reason why a proxy failed."""
    return error.reason if isinstance(error, avito.ProxyFailed) else str(error)


def words(code: str, text: str = "") -> str:
    """A failure in the reader's language; an unknown code stands for itself."""
    if code == "proxy_failed":
        text = str(PROXY_REASONS.get(text, text))
    return str(WORDS.get(code, code)) % {"text": text or "—"}
