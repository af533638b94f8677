"""Plan -> kernel, through TVM; no policy: it does what the plan says (rank 5)."""
