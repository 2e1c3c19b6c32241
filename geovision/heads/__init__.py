"""Heads: logits, masks or fields from features, with their losses and decoding."""
