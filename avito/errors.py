"""What can go wrong with a call to Avito, named by what the caller should do next."""

from collections.abc import Mapping
from typing import Any, Literal

ProxyReason = Literal["auth", "unreachable", "timeout", "protocol", "forbidden"]


class AvitoError(Exception):
    """A call to Avito failed.

    `message`: Avito's own text or a short English one; never a token, a secret or a proxy's password.
    `maybe_done`: could the call have taken effect nevertheless? If False, it may be repeated without harm.
    `retry_after_seconds`: how long Avito asks to wait; None if it did not say.
    """

    maybe_done: bool = False
    default_message = "The call to Avito failed"

    def __init__(self, message: str = "", *, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.message = message or self.default_message
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return self.message


class NoAnswer(AvitoError):
    """Nothing readable as an HTTP answer came back."""

    default_message = "No answer from Avito"


class NotConnected(NoAnswer):
    """The request never left: name not resolved, connection refused, TLS not agreed, no free connection. Not done."""

    default_message = "Could not connect to Avito"


class TooLate(NotConnected):
    """The caller's own moment was over before the request left. Not done."""


class ProxyFailed(NotConnected):
    """The account's proxy did not carry the request. Not done; repeating it without the proxy is no option.

    `reason`: auth (login or password refused), unreachable (the proxy, or Avito from there), timeout, protocol (it
    does not speak what we were told, answers nonsense or hangs up), or forbidden (its address may not be connected to).
    """

    default_message = "The proxy failed"

    def __init__(
        self, message: str = "", *, reason: ProxyReason = "unreachable", retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.reason: ProxyReason = reason


class TimedOut(NoAnswer):
    """The request was sent, but no whole answer came in time, or the connection broke. May have been done."""

    maybe_done = True
    default_message = "Avito did not answer in time"


class Refused(AvitoError):
    """Avito answered with an error.

    `status`: the HTTP status. `code`: the code in the body, as text; None without one.
    """

    status: int = 0
    default_message = "Avito refused the call"

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        if status is not None:
            self.status = status
        self.code = code


class Unauthorized(Refused):
    """401: the access token is wrong or expired. Refresh it once and repeat."""

    status = 401
    default_message = "Avito does not accept the access token"


class InvalidGrant(Refused):
    """The token endpoint refuses the code or the refresh token: used, stale or revoked. Ask the owner to reconnect."""

    status = 400
    default_message = "Avito does not accept the code or refresh token"


class InvalidClient(Refused):
    """The token endpoint refuses the client id or secret. Correct them; the account itself is not to blame."""

    status = 401
    default_message = "Avito does not accept the client id or secret"


class SubscriptionRequired(Refused):
    """402: the account's plan does not include this. Show Avito's text to the owner."""

    status = 402
    default_message = "Avito asks for a subscription"


class Forbidden(Refused):
    """403: no right, scope or ownership; by Avito's guide perhaps an expired token. Refresh only an old token."""

    status = 403
    default_message = "Avito forbids the call"


class NotFound(Refused):
    """404 (also 405, 410): no such thing, not ours, or no such method any more."""

    status = 404
    default_message = "Avito has no such thing"


class Invalid(Refused):
    """400, 409, 422 and other 4xx: the call is wrong as it stands. Do not repeat it unchanged.

    `fields`: what Avito says about single fields, by their names; often empty.
    """

    status = 400
    default_message = "Avito rejects the call"

    def __init__(self, message: str = "", *, fields: Mapping[str, Any] | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.fields: dict[str, Any] = dict(fields or {})


class RateLimited(Refused):
    """429: too many calls. Not done; wait `retry_after_seconds`, or back off with jitter if that is None."""

    status = 429
    default_message = "Avito asks to call less often"


class Broken(Refused):
    """5xx: Avito failed. May have been done."""

    maybe_done = True
    status = 500
    default_message = "Avito is out of order"


class Unreadable(AvitoError):
    """Avito answered, but not as documented: no JSON, a missing key, a redirect, too long. May have been done."""

    maybe_done = True
    default_message = "Avito's answer is not readable"
