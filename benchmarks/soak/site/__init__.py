"""A project with tenants and a ledger, as small as it can be, for ``make soak``."""
