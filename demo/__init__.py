"""Small models of a small world, and its language: what Relax Forcing Demo Models gives."""
