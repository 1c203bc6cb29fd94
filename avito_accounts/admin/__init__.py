"""The back office for accounts, their proxies and the work on many of them."""

from avito_accounts.admin.accounts import AccountAdmin, AccountForm
from avito_accounts.admin.proxies import ProxyAdmin
from avito_accounts.admin.runs import RunAdmin

__all__ = ["AccountAdmin", "AccountForm", "ProxyAdmin", "RunAdmin"]
