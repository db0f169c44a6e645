"""Weights in and out: other people's checkpoints, read without their code and without trust."""
