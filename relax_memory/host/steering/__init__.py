"""Steering: other words for a rollout while it runs."""
