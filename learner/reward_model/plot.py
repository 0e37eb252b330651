"""The calibration plot, as an SVG that any browser shows. No library draws it: it is thirty shapes."""

from collections.abc import Mapping, Sequence
from typing import Any

SIZE, MARGIN = 360, 56
INK, GREY, BLUE = "#222222", "#bbbbbb", "#2b6cb0"
TICKS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def calibration_svg(bins: Sequence[Mapping[str, Any]], error: float) -> str:
    """Accuracy over confidence, a disc per bin with an area that grows with its count.

    Args:
        bins: `calibration` of a report's section `held_out`.
        error: its expected calibration error.
    """
    total = sum(b["count"] for b in bins)
    side = SIZE + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" width="{side}" height="{side}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}">',
        f'<rect width="{side}" height="{side}" fill="white"/>',
        *_axes(),
        f'<line x1="{_x(0.5)}" y1="{_y(0.5)}" x2="{_x(1)}" y2="{_y(1)}" stroke="{GREY}" '
        'stroke-dasharray="5 4"/>',
        *(_disc(b, total) for b in bins),
        _text(side / 2, 24, f"{total} held-out pairs, expected calibration error {error:.3f}"),
        _text(side / 2, side - 12, "confidence in the answer that the model prefers"),
        f'<g transform="rotate(-90 16 {side / 2})">',
        _text(16, side / 2, "share of preferences that are right"),
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _axes() -> list[str]:
    frame = f'<rect x="{MARGIN}" y="{MARGIN}" width="{SIZE}" height="{SIZE}" fill="none" stroke="{INK}"/>'
    below = [_text(_x(tick), MARGIN + SIZE + 18, f"{tick:g}") for tick in TICKS]
    beside = [_text(MARGIN - 16, _y(share) + 4, f"{share:g}") for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return [frame, *below, *beside]


def _disc(b: Mapping[str, Any], total: int) -> str:
    radius = 4 + 20 * (b["count"] / total) ** 0.5
    told = f"{b['count']} pairs: confidence {b['confidence']:.2f}, right {b['accuracy']:.2f}"
    return (
        f'<circle cx="{_x(b["confidence"]):.1f}" cy="{_y(b["accuracy"]):.1f}" r="{radius:.1f}" fill="{BLUE}" '
        f'fill-opacity="0.6" stroke="{BLUE}"><title>{told}</title></circle>'
    )


def _text(x: float, y: float, words: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="middle">{words}</text>'


def _x(confidence: float) -> float:
    return MARGIN + SIZE * (confidence - 0.5) / 0.5


def _y(accuracy: float) -> float:
    return MARGIN + SIZE * (1 - accuracy)
