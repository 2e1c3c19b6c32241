"""From features to answers: logits, masks or fields, their losses, and their decoding."""
