"""What people are told about accounts and proxies: once when something falls, once when it returns."""

from django.utils.translation import gettext_lazy as _

from api.roles import Permission
from avito_accounts.errors import PROXY_REASONS, WORDS
from avito_accounts.models import Account, Proxy
from notifications import register
from notifications import services as notifications

READERS: Permission = "accounts.read"

register(
    "account_fell",
    title=_("Account %(account)s has lost Avito"),
    detail="%(reason)s",
    words={"reason": WORDS},
)
register(
    "account_returned",
    title=_("Account %(account)s is connected again"),
    detail=_("Nothing is left to do."),
)
register(
    "proxy_fell",
    title=_("Proxy %(proxy)s does not work"),
    detail=_("Its accounts do not reach Avito: %(reason)s."),
    words={"reason": PROXY_REASONS},
)
register(
    "proxy_returned",
    title=_("Proxy %(proxy)s works again"),
    detail=_("Its accounts reach Avito again."),
)
register(
    "avito_fell",
    title=_("Avito does not answer"),
    detail=_("Nothing is wrong with the accounts. What waits is done when Avito is back."),
)
register("avito_returned", title=_("Avito answers again"), detail=_("Nothing is left to do."))


def account_fell(account: Account, code: str, text: str = "") -> None:
    notifications.raise_problem(
        _account(account),
        "account_fell",
        needs=READERS,
        params={"account": account.name, "reason": code, "text": text or "—"},
        path=f"/admin/avito_accounts/account/{account.pk}/change/",
        level="error",
    )


def account_returned(account: Account) -> None:
    notifications.solve_problem(
        _account(account),
        "account_returned",
        needs=READERS,
        params={"account": account.name},
        path=f"/admin/avito_accounts/account/{account.pk}/change/",
    )


def forget_account(account_id: int) -> None:
    """An account that is gone has no problems."""
    notifications.solve_problems([f"account:{account_id}"])


def proxy_fell(proxy: Proxy, reason: str) -> None:
    notifications.raise_problem(
        _proxy(proxy),
        "proxy_fell",
        needs=READERS,
        params={"proxy": proxy.address, "reason": reason},
        path=_proxy_path(proxy),
        level="error",
    )


def proxy_returned(proxy: Proxy) -> None:
    notifications.solve_problem(
        _proxy(proxy), "proxy_returned", needs=READERS, params={"proxy": proxy.address}, path=_proxy_path(proxy)
    )


def forget_proxy(proxy: Proxy) -> None:
    """A proxy that is gone, or another one by now, has no problems."""
    notifications.solve_problems([_proxy(proxy)])


def avito_fell() -> None:
    notifications.raise_problem("avito", "avito_fell", needs=READERS, level="warning")


def avito_returned() -> None:
    notifications.solve_problem("avito", "avito_returned", needs=READERS)


def _account(account: Account) -> str:
    return f"account:{account.pk}"


def _proxy(proxy: Proxy) -> str:
    return f"proxy:{proxy.pk}"


def _proxy_path(proxy: Proxy) -> str:
    return f"/admin/avito_accounts/proxy/{proxy.pk}/change/"
