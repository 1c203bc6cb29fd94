"""Who we are at Avito: accounts, proxies, secrets and tokens. `services.client_for(account)` opens the door."""
