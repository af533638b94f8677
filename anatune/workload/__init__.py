"""What to compute: extents, data types, references (rank 2)."""

from anatune.workload.matmul import Matmul, matmul

__all__ = ["Matmul", "matmul"]
