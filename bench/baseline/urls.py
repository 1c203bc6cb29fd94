from django.urls import path

from bench.baseline.api import Webhook

urlpatterns = [path("webhook", Webhook.as_view())]
