"""How people see dates and times: a time of day is Moscow's and says so (see `api.middleware`), hours go to 23."""
