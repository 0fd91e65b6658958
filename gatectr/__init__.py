"""GateCTR: a deep click-through-rate stack with decision gates."""
