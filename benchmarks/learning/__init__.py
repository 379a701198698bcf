"""How fast the agent learns: see ``python -m benchmarks.learning --help``."""
