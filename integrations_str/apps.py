from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class IntegrationsStrConfig(AppConfig):
    name = "integrations_str"
    verbose_name = _("Short-term rent")

    def ready(self) -> None:
        from integrations_str import connecting, news  # noqa: F401  they introduce themselves
        from notifications import events

        events.register("booking", show="integrations_str.api.bookings.show_bookings")
        events.register("integration", show="integrations_str.api.connection.show_integrations")
