"""The API's common ground: who may call, and one shape of bodies, errors and pages. Knows nothing of Avito."""
