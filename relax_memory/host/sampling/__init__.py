"""A rollout through the host's guider and sampler."""
