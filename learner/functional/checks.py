"""What pure functions ask of their arguments before they compute anything."""

from torch import Tensor


def same_shape(rank: int, **tensors: Tensor) -> None:
    """Refuse tensors of another rank, or of unequal shapes: broadcasting hides wrong axes.

    Raises:
        ValueError: names every tensor with its shape.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != rank for shape in shapes.values()):
        raise ValueError(f"want equal shapes of rank {rank}, got {shapes}")


def at_least(minimum: float, **numbers: float) -> None:
    """Refuse numbers below `minimum`.

    Raises:
        ValueError: names the first of them.
    """
    for name, number in numbers.items():
        if number < minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {number}")
