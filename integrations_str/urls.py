from rest_framework.routers import SimpleRouter

from integrations_str import api

router = SimpleRouter(trailing_slash=False)
router.register("str/properties", api.PropertyViewSet, basename="str-property")
router.register("str/bookings", api.BookingViewSet, basename="str-booking")
router.register("str/conflicts", api.ConflictViewSet, basename="str-conflict")
urlpatterns = router.urls
