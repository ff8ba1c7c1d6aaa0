"""How the gateway reaches AWS: credentials, endpoints, signed requests."""
