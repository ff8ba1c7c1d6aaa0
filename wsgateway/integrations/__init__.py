"""What a route does with a message."""
