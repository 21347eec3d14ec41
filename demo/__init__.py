"""A small world, the models that were trained on it, and the scripts that trained them."""
