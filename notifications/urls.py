from rest_framework.routers import SimpleRouter

from notifications import api

router = SimpleRouter(trailing_slash=False)
router.register("notifications", api.NotificationViewSet, basename="notification")
urlpatterns = router.urls
