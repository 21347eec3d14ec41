"""An MP4 that plays while it grows, and a thread that writes it."""
