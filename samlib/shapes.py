"""Array types for annotations, such as Float[Tensor, "batch feature"]: jaxtyping's, or plain ones where it is missing.

Only readers and type checkers use them: where jaxtyping is missing, samlib runs all the same.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Bool as Bool
    from jaxtyping import Float as Float
    from jaxtyping import Int as Int
    from jaxtyping import Int64 as Int64
    from jaxtyping import UInt8 as UInt8
else:
    try:
        from jaxtyping import Bool, Float, Int, Int64, UInt8
    except ImportError:

        class Float:
            """Stand-in: the array type without its axes."""

            def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
                return item[0]

        Bool = Int = Int64 = UInt8 = Float
