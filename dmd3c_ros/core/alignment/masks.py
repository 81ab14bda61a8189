"""Averages and medians over the marked pixels of a batch of images."""

from __future__ import annotations

from torch import Tensor


def check_images(**images: Tensor) -> None:
    """Raise ValueError unless all are (B, 1, H, W) of one shape."""
    shapes = {name: tuple(image.shape) for name, image in images.items()}
    first = next(iter(shapes.values()))
    if len(first) != 4 or first[1] != 1 or any(shape != first for shape in shapes.values()):
        raise ValueError(f'expected (B, 1, H, W) tensors of one shape, got {shapes}')


def image_means(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each image over its marked pixels.

    Args:
        values: (B, ...) of any size.
        mask: bool, same shape.

    Returns:
        (B,) means, 0 for an image without marked pixels, and (B,) bool, which images have some.
    """
    count = mask.flatten(1).sum(1)
    # where() instead of a product: a NaN or an infinity outside the mask must not get through.
    total = values.where(mask, values.new_zeros(())).flatten(1).sum(1)
    return total / count.clamp(min=1), count > 0


def batch_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the images that have marked pixels of each one's own mean; 0 where none has."""
    means, used = image_means(values, mask)
    return means.sum() / used.sum().clamp(min=1)


def masked_median(values: Tensor, mask: Tensor) -> Tensor:
    """Lower median of each row of (B, N) over its marked entries, 0 in a row without any: (B,)."""
    rows = values.where(mask, values.new_full((), float('nan')))
    return rows.nanmedian(dim=1).values.where(mask.any(1), values.new_zeros(()))
