"""Suites of others that the gateway is put through: `make autobahn`."""
