"""Pages where a person acts as a guest: the listings for rent, a calendar, asking, paying, cancelling, moving."""

from starlette.routing import Route

ROUTES: list[Route] = []
