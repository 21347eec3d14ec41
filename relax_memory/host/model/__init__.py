"""The host's MODEL: attention with memory."""
