"""The picture of a confusion matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL = 64
LEFT, TOP, RIGHT, BOTTOM = 120, 110, 40, 90
INK, MUTED, PAPER = (31, 41, 55), (107, 114, 128), (255, 255, 255)
CORRECT_COLOUR, WRONG_COLOUR = (37, 99, 235), (220, 38, 38)


def draw_confusion(matrix: np.ndarray, accuracy: float, path: Path) -> None:
    """Draw how often each digit (rows) was read as which (columns).

    The diagonal, what is correct, is blue; everything off it is red.
    """
    classes = len(matrix)
    side = classes * CELL
    image = Image.new("RGB", (LEFT + side + RIGHT, TOP + side + BOTTOM), PAPER)
    draw = ImageDraw.Draw(image)
    middle = LEFT + side / 2

    wrong = int(matrix.sum() - np.trace(matrix))
    _text(draw, (middle, 40), "Handwritten digits", 30, INK)
    _text(draw, (middle, 74), f"{accuracy:.1%} of {matrix.sum()} correct, {wrong} wrong", 18, MUTED)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    for row in range(classes):
        for column in range(classes):
            _cell(draw, row, column, int(matrix[row, column]), float(shares[row, column]))
        _text(draw, (LEFT - 22, TOP + (row + 0.5) * CELL), str(row), 22, INK)
        _text(draw, (LEFT + (row + 0.5) * CELL, TOP + side + 24), str(row), 22, INK)
    _text(draw, (middle, TOP + side + 62), "read as", 18, MUTED)
    _sideways(image, (46, TOP + side / 2), "written", 18, MUTED)
    image.save(path)


def _cell(draw: ImageDraw.ImageDraw, row: int, column: int, count: int, share: float) -> None:
    x, y = LEFT + column * CELL, TOP + row * CELL
    colour = CORRECT_COLOUR if row == column else WRONG_COLOUR
    strength = share if row == column else min(1.0, 4 * share)
    filled = _blend((246, 247, 249), colour, strength)
    draw.rounded_rectangle((x + 2, y + 2, x + CELL - 3, y + CELL - 3), radius=6, fill=filled)
    if count:
        ink = PAPER if strength > 0.5 else INK
        _text(draw, (x + CELL / 2, y + CELL / 2), str(count), 22, ink)


def _blend(
    low: tuple[int, int, int], high: tuple[int, int, int], share: float
) -> tuple[int, int, int]:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return red, green, blue


def _text(
    draw: ImageDraw.ImageDraw,
    centre: tuple[float, float],
    text: str,
    size: int,
    colour: tuple[int, int, int],
) -> None:
    draw.text(centre, text, fill=colour, font=ImageFont.load_default(size), anchor="mm")


def _sideways(
    image: Image.Image,
    centre: tuple[float, float],
    text: str,
    size: int,
    colour: tuple[int, int, int],
) -> None:
    strip = Image.new("RGB", (200, 40), PAPER)
    _text(ImageDraw.Draw(strip), (100, 20), text, size, colour)
    turned = strip.rotate(90, expand=True)
    image.paste(turned, (round(centre[0] - turned.width / 2), round(centre[1] - turned.height / 2)))
