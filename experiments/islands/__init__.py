"""Training over islands: each reads its part of the batch, and all take the same step."""
