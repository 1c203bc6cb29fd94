from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AvitoAccountsConfig(AppConfig):
    name = "avito_accounts"
    verbose_name = _("Avito accounts")

    def ready(self) -> None:
        from notifications import events

        events.register("account", needs="accounts.read", show="avito_accounts.api.show_accounts")
