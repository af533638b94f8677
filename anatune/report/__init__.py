"""What people look at: comparisons with other libraries, tables (rank 9)."""
