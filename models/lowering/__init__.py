"""Sparse models as chains of segments and expert nodes; see `lower`."""
