from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ChatsConfig(AppConfig):
    name = "chats"
    verbose_name = _("Chats")

    def ready(self) -> None:
        from notifications import events

        events.register("chat", needs="chats.use", show="chats.api.show_chats")
        events.register("message", needs="chats.use", show="chats.api.show_messages")
