"""Build, verify and time kernels in a worker process that may die; probe the machine (rank 6)."""
