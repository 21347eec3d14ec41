"""Latents to video files with the host's VAE."""
