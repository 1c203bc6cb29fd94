from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AvitoAccountsConfig(AppConfig):
    name = "avito_accounts"
    verbose_name = _("Avito accounts")
