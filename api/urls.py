from django.urls import path

from api import views

urlpatterns = [
    path("auth/token", views.ObtainToken.as_view(), name="token"),
    path("auth/token/refresh", views.RefreshToken.as_view(), name="token-refresh"),
    path("auth/me", views.Me.as_view(), name="me"),
]
