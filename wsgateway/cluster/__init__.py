"""Who holds which connection, and how a post finds it."""
