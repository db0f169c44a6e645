"""Runs beside each other: intervals over seeds, paired differences, learning curves."""
