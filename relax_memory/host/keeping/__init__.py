"""Autosave: every finished chunk on disk, found again by the same request."""
