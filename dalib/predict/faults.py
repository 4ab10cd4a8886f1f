"""What is said where a network fails on an image."""

from jaxtyping import Float
from torch import Tensor

from dalib.errors import DataError


def finite(disparity: Float[Tensor, "h w"], name: str) -> Float[Tensor, "h w"]:
    """The map itself; a `DataError` that names the image where a value is NaN or infinite."""
    if not disparity.isfinite().all():
        raise DataError(
            f"{name}: the network gave NaN or infinite values; try float32, and see that the "
            "weights are whole"
        )
    return disparity


def network_error(error: RuntimeError) -> str:
    """What to say where a network fails on an image: one line of PyTorch's, and what to try."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return (
        f"the network failed ({first}); try a smaller --short-side or --batch, and do without "
        "--compile"
    )
