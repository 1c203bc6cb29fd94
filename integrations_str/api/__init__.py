"""`/str`: a host's properties, their rates and bookings, and what connects them to Avito. Everything is the owner's."""
