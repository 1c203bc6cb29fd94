"""A small stand-in for Avito: the API, the consent page, webhooks, and pages where a person acts as a buyer.

It shares no code with the service it stands opposite to: both read Avito's documents on their own, and so check each
other. `python -m sandbox` starts it; `sandbox.app.create_app()` is the ASGI application; `sandbox.server.running()` is
a server in a thread, for tests. State lives in memory and is changed only on the event loop's thread: no locks.
"""
