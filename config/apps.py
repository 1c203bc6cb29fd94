from django.apps import AppConfig


class ConfigApp(AppConfig):
    """The wiring as an app: it owns the heartbeats, the health page and the command that runs everything."""

    name = "config"

    def ready(self) -> None:
        from config import celery  # noqa: F401  the Celery app must be the current one before any task is rung
