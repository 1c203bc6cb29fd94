"""Every path of the service but Avito's webhooks, which `config.asgi` hands to `chats.intake`."""

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView
from django_prometheus.exports import ExportToDjangoView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from chats.inbox_page import inbox
from config import health
from config.system import page
from integrations_str.calendar_page import calendar
from integrations_str.wizard import connect

api_v1 = [
    path("", include("api.urls")),
    path("", include("notifications.urls")),
    path("", include("avito_accounts.urls")),
    path("", include("chats.urls")),
    path("", include("messenger.urls")),
    path("", include("integrations_str.urls")),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("favicon.ico", RedirectView.as_view(url=f"{settings.STATIC_URL}config/icon.svg")),
    path("health", health.alive),
    path("health/ready", health.ready),
    path("metrics", ExportToDjangoView),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    path("api/v1/", include(api_v1)),
    path("i18n/", include("django.conf.urls.i18n")),
    path("admin/properties/<int:property_id>/connect/", admin.site.admin_view(connect), name="str_connect"),
    path("admin/inbox/", admin.site.admin_view(inbox), name="chats_inbox"),
    path("admin/calendar/", admin.site.admin_view(calendar), name="str_calendar"),
    path("admin/system/", admin.site.admin_view(page.system), name="system"),
    path("admin/system/run/", admin.site.admin_view(page.run_now), name="system_run"),
    path("admin/", admin.site.urls),
]

handler400 = "config.api.bad_request"
handler403 = "config.api.forbidden"
handler404 = "config.api.not_found"
handler500 = "config.api.server_error"
