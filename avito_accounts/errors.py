"""Why an account cannot be used, and the one name that each failure has outside."""

import avito


class AccountUnusable(Exception):
    """Nothing was asked of Avito, since nothing could come of it."""


class AccountNotAuthorized(AccountUnusable):
    """The account has neither tokens nor keys of its own, or no number at Avito yet."""


class ReconnectRequired(AccountUnusable):
    """The authorisation is dead for good: a person has to give consent again."""


class MissingAvitoSecrets(AccountUnusable):
    """The installation has no id or secret of an OAuth application."""


class Undecryptable(AccountUnusable):
    """No key of FIELD_ENCRYPTION_KEYS opens this ciphertext in this row. The stored value is left as it is."""


class AuthorizationRefused(Exception):
    """An OAuth flow ended without a connection; `code` is stable, `account_id` is known once the state was good."""

    def __init__(self, code: str, account_id: int | None = None) -> None:
        super().__init__(code)
        self.code, self.account_id = code, account_id


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
