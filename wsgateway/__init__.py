"""A self-hosted gateway that speaks Amazon API Gateway's WebSocket API contract."""

__version__ = "0.1.0"
