"""Encoders: images and texts to vectors of one space. `auto` loads them by name."""
