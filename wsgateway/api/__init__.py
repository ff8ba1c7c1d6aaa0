"""What an API is: definition, expressions, deployment."""
