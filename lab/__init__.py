"""The small world, what trains models of it, and what measures them: no part of the package."""
