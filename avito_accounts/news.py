"""What people are told about accounts and proxies: once when something falls, once when it returns."""

from typing import Any

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
register(
    "webhook_restored",
    title=_("The webhook of account %(account)s is subscribed again"),
    detail=_("Avito had lost the subscription. Messages that came meanwhile are being read."),
)
register(
    "webhook_lost",
    title=_("Avito no longer delivers the messages of account %(account)s"),
    detail=_("The webhook's subscription has vanished and could not be restored. It is tried again every few minutes."),
)
register(
    "messenger_unpaid",
    title=_("Avito hides the messages of account %(account)s"),
    detail=_("The account's plan has no messenger API. Change the plan at Avito; nothing can be read or sent before."),
)
register(
    "messenger_paid",
    title=_("Avito shows the messages of account %(account)s again"),
    detail=_("Nothing is left to do."),
)


def account_fell(account: Account, code: str, text: str = "") -> None:
    about = _about(account, reason=code, text=text or "—")
    notifications.raise_problem(_account(account), "account_fell", level="error", **about)


def account_returned(account: Account) -> None:
    notifications.solve_problem(_account(account), "account_returned", **_about(account))


def forget_account(account_id: int) -> None:
    """An account that is gone has no problems."""
    notifications.solve_problems([f"{trouble}:{account_id}" for trouble in ("account", "webhook", "messenger")])


def webhook_lost(account: Account) -> None:
    """The subscription has vanished at Avito and could not be restored."""
    notifications.raise_problem(f"webhook:{account.pk}", "webhook_lost", level="error", **_about(account))


def webhook_restored(account: Account) -> None:
    """It had vanished, and was restored at once."""
    notifications.tell("webhook_restored", level="warning", **_about(account))


def webhook_is_back(account: Account) -> None:
    """The account is subscribed; if it was lost, people hear that it no longer is."""
    notifications.solve_problem(f"webhook:{account.pk}", "webhook_restored", **_about(account))


def forget_webhook(account: Account) -> None:
    """A person wants no subscription any more."""
    notifications.solve_problems([f"webhook:{account.pk}"])


def messenger_unpaid(account: Account) -> None:
    """Avito asks for a subscription instead of showing or taking messages."""
    notifications.raise_problem(f"messenger:{account.pk}", "messenger_unpaid", level="warning", **_about(account))


def messenger_paid(account: Account) -> None:
    """Messages can be read or sent; costs one query when they always could."""
    notifications.solve_problem(f"messenger:{account.pk}", "messenger_paid", **_about(account))


def proxy_fell(proxy: Proxy, reason: str) -> None:
    notifications.raise_problem(_proxy(proxy), "proxy_fell", level="error", **_about_proxy(proxy, reason=reason))


def proxy_returned(proxy: Proxy) -> None:
    notifications.solve_problem(_proxy(proxy), "proxy_returned", **_about_proxy(proxy))


def forget_proxy(proxy: Proxy) -> None:
    """A proxy that is gone, or another one by now, has no problems."""
    notifications.solve_problems([_proxy(proxy)])


def avito_fell() -> None:
    notifications.raise_problem("avito", "avito_fell", needs=READERS, level="warning")


def avito_returned() -> None:
    notifications.solve_problem("avito", "avito_returned", needs=READERS)


def _about(account: Account, **params: str) -> dict[str, Any]:
    return {
        "needs": READERS,
        "params": {"account": account.name, **params},
        "path": f"/admin/avito_accounts/account/{account.pk}/change/",
    }


def _about_proxy(proxy: Proxy, **params: str) -> dict[str, Any]:
    return {
        "needs": READERS,
        "params": {"proxy": proxy.address, **params},
        "path": f"/admin/avito_accounts/proxy/{proxy.pk}/change/",
    }


def _account(account: Account) -> str:
    return f"account:{account.pk}"


def _proxy(proxy: Proxy) -> str:
    return f"proxy:{proxy.pk}"
