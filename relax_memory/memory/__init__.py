"""Keys and values of past frames: where they lie, and what the running chunk reads of them."""
