from django.urls import include, path
from rest_framework.routers import SimpleRouter

from avito_accounts import api, views

router = SimpleRouter(trailing_slash=False)
router.register("accounts", api.AccountViewSet, basename="account")

# Both families are the same views: `oauth/` is what applications registered earlier use. Of paths with the same name
# Django spells the last one, so `auth/` stands last.
oauth = [
    path("authorize/<int:account_id>", views.Authorize.as_view(), name="avito-authorize"),
    path("authorize/for/<slug:purpose>", views.AuthorizePurpose.as_view(), name="avito-authorize-purpose"),
    path("refresh/<int:account_id>", views.Refresh.as_view(), name="avito-refresh"),
    path("callback", views.Callback.as_view(), name="avito-callback"),
]
urlpatterns = [*router.urls, path("oauth/avito/", include(oauth)), path("auth/avito/", include(oauth))]
