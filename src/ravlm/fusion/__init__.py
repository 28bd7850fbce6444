"""How evidence enters a decoder: by prompt, by cross-attention, or by marginalising over the
entries."""
