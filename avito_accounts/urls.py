from django.urls import include, path
from rest_framework.routers import SimpleRouter

from avito_accounts import api, views

router = SimpleRouter(trailing_slash=False)
router.register("accounts", api.AccountViewSet, basename="account")

# The second family of paths is what applications registered earlier use; both are the same views.
oauth = [
    path("authorize/<int:account_id>", views.Authorize.as_view(), name="avito-authorize"),
    path("refresh/<int:account_id>", views.Refresh.as_view(), name="avito-refresh"),
    path("callback", views.callback, name="avito-callback"),
]
urlpatterns = [*router.urls, path("auth/avito/", include(oauth)), path("oauth/avito/", include(oauth))]
