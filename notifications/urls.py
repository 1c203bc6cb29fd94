from django.urls import path
from rest_framework.routers import SimpleRouter

from notifications import api

router = SimpleRouter(trailing_slash=False)
router.register("notifications", api.NotificationViewSet, basename="notification")
urlpatterns = [
    *router.urls,
    path("events", api.Events.as_view(), name="events"),
    path("events/ticket", api.EventTicket.as_view(), name="event-ticket"),
]
