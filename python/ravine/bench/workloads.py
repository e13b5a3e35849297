"""The shapes that are timed: one array, real networks, and many small arrays."""

from __future__ import annotations

Shapes = list[tuple[int, ...]]


def resnet50() -> Shapes:
    """ResNet-50: 161 arrays, 25.6 million parameters."""
    shapes: Shapes = [(64, 3, 7, 7), (64,), (64,)]
    channels = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            for shape in (
                (width, channels, 1, 1),
                (width, width, 3, 3),
                (4 * width, width, 1, 1),
            ):
                shapes += [shape, (shape[0],), (shape[0],)]
            if block == 0:
                shapes += [(4 * width, channels, 1, 1), (4 * width,), (4 * width,)]
            channels = 4 * width
    return [*shapes, (1000, 2048), (1000,)]


def gpt2() -> Shapes:
    """GPT-2 small: 148 arrays, 124 million parameters."""
    width = 768
    block: Shapes = [
        (width,),
        (width,),
        (width, 3 * width),
        (3 * width,),
        (width, width),
        (width,),
        (width,),
        (width,),
        (width, 4 * width),
        (4 * width,),
        (4 * width, width),
        (width,),
    ]
    return [(50257, width), (1024, width), *(block * 12), (width,), (width,)]


WORKLOADS: dict[str, Shapes] = {
    **{f"flat{exponent}": [(1 << exponent,)] for exponent in range(10, 27)},
    "resnet50": resnet50(),
    "gpt2": gpt2(),
    "tiny": [(64,)] * 1000,
}
