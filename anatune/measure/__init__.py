"""Build, verify and time kernels in a worker process that may die; probes of the machine (rank 6)."""
