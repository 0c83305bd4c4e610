"""Monitoring: what really happened, what moved, and what another model would have decided."""
