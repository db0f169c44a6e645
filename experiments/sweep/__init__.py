"""Many runs at once: a plan of them, a pool of processes, what became of each."""
