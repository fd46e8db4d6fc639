"""Flax modules: the ViT encoder, the task heads, and the two together."""
