"""How much memory a rollout needs, and where it goes."""
