"""The papers' claims as experiments: what is run, what is measured, what is said of it."""
