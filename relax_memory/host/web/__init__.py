"""Our routes of the host's server."""
