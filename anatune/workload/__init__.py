"""What to compute: extents, data types, references (rank 2)."""

from anatune.workload.dim import Dim, Extent
from anatune.workload.matmul import Matmul, matmul
from anatune.workload.tensor import Tensor

__all__ = ["Dim", "Extent", "Matmul", "Tensor", "matmul"]
