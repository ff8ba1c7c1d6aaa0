"""What runs a function: in this process today."""
