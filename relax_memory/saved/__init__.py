"""Rollouts on disk: whole files, found again by what they were made from."""
