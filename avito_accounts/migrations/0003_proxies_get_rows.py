"""Each account's inline proxy becomes a row, shared by the accounts that have the very same one; and back again.

A password is sealed for its row, so it is opened and sealed anew. One that no key opens stops the migration: give back
the key that is missing first.
"""

import uuid
from typing import Any

from django.db import migrations

from avito_accounts.fields import Sealed, seal, unseal


def _account_context(account: Any) -> str:
    return f"avito_accounts_account.proxy_password:{account.cipher_id}"


def _proxy_context(cipher_id: uuid.UUID) -> str:
    return f"avito_accounts_proxy.password:{cipher_id}"


def _opened(sealed: Any, context: str) -> str:
    return unseal(str(sealed), context=context) if sealed else ""


def _resealed(text: str, context: str) -> str:
    return seal(text, context=context) if text else ""


def forwards(apps: Any, schema_editor: Any) -> None:
    Account, Proxy = apps.get_model("avito_accounts", "Account"), apps.get_model("avito_accounts", "Proxy")
    made: dict[tuple[Any, ...], Any] = {}
    for account in Account.objects.exclude(proxy_type="").order_by("pk"):
        password = _opened(account.__dict__["proxy_password"], _account_context(account))
        address = (account.proxy_type, account.proxy_host, account.proxy_port, account.proxy_login, password)
        if address not in made:
            cipher_id = uuid.uuid4()
            kind, host, port, login, _password = address
            proxy = Proxy(type=kind, host=host, port=port, login=login, cipher_id=cipher_id)
            proxy.password = Sealed(_resealed(password, _proxy_context(cipher_id)))
            proxy.save()
            made[address] = proxy
        Account.objects.filter(pk=account.pk).update(proxy=made[address])


def backwards(apps: Any, schema_editor: Any) -> None:
    Account = apps.get_model("avito_accounts", "Account")
    for account in Account.objects.filter(proxy__isnull=False).select_related("proxy"):
        proxy = account.proxy
        password = _opened(proxy.__dict__["password"], _proxy_context(proxy.cipher_id))
        Account.objects.filter(pk=account.pk).update(
            proxy_type=proxy.type,
            proxy_host=proxy.host,
            proxy_port=proxy.port,
            proxy_login=proxy.login,
            proxy_password=Sealed(_resealed(password, _account_context(account))),
            proxy_status="not_checked",
        )


class Migration(migrations.Migration):
    dependencies = [("avito_accounts", "0002_proxies_figures_and_jobs")]

    operations = [migrations.RunPython(forwards, backwards)]
