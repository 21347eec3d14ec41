"""Relax Forcing memory (arXiv 2603.21366): the method, without ComfyUI outside `host/`."""
