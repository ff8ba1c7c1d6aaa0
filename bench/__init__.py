"""What the gateway costs, beside what a bare server costs: run `python -m bench --help`."""
