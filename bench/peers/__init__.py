"""Servers of others that do the same, measured beside the gateway: `python -m bench.peers --help`."""
