from rest_framework.routers import SimpleRouter

from chats import api

router = SimpleRouter(trailing_slash=False)
router.register("avito/chats", api.ChatViewSet, basename="chat")
router.register("avito/catch-up", api.CatchUpViewSet, basename="catch-up")
router.register("avito/canned-replies", api.CannedReplyViewSet, basename="canned-reply")
urlpatterns = router.urls
