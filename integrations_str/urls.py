from rest_framework.routers import SimpleRouter

from integrations_str.api.bookings import BookingViewSet
from integrations_str.api.conflicts import ConflictViewSet
from integrations_str.api.connection import ConnectionViewSet
from integrations_str.api.preview import PreviewViewSet
from integrations_str.api.properties import PropertyViewSet
from integrations_str.api.rates import RatesViewSet

router = SimpleRouter(trailing_slash=False)
router.register("str/properties", PropertyViewSet, basename="str-property")
router.register("str/properties", RatesViewSet, basename="str-rates")
router.register("str/properties", ConnectionViewSet, basename="str-connection")
router.register("str/properties", PreviewViewSet, basename="str-preview")
router.register("str/bookings", BookingViewSet, basename="str-booking")
router.register("str/conflicts", ConflictViewSet, basename="str-conflict")
urlpatterns = router.urls
