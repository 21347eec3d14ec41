"""Checkpoints as people have them."""
