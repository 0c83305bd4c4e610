"""Small charts, for a cell of a table or a line of text."""

from collections.abc import Sequence

from markupsafe import Markup

BLOCKS = "▁▂▃▄▅▆▇█"
BAR, HEIGHT = 8, 24  # pixels


def small_bars(heights: Sequence[float], label: str) -> Markup:
    """Bars side by side as SVG; what they show is said in the label."""
    top = max(heights)
    bars = Markup().join(
        Markup('<rect x="{}" y="{:.1f}" width="{}" height="{:.1f}"/>').format(
            BAR * place, HEIGHT * (1 - height / top), BAR - 1, HEIGHT * height / top
        )
        for place, height in enumerate(heights)
    )
    width = BAR * len(heights)
    svg = '<svg role="img" aria-label="{}" viewBox="0 0 {} {}" style="width: {}px" fill="var(--a)">{}</svg>'
    return Markup(svg).format(label, width, HEIGHT, width, bars)  # noqa: S704 - format escapes what it inserts


def paired_bars(before: Sequence[float], now: Sequence[float], label: str) -> Markup:
    """Pairs of bars side by side as SVG, the first of each pair paler; what they show is said in the label."""
    top = max(*before, *now, 1e-9)
    half = (BAR - 1) / 2
    bars = Markup().join(
        Markup('<rect x="{}" y="{:.1f}" width="{}" height="{:.1f}" fill="var(--{})"/>').format(
            BAR * place + half * second, HEIGHT * (1 - height / top), half, HEIGHT * height / top, colour
        )
        for second, (heights, colour) in enumerate(((before, "muted"), (now, "a")))
        for place, height in enumerate(heights)
    )
    width = BAR * len(before)
    svg = '<svg role="img" aria-label="{}" viewBox="0 0 {} {}" style="width: {}px">{}</svg>'
    return Markup(svg).format(label, width, HEIGHT, width, bars)  # noqa: S704 - format escapes what it inserts


def small_blocks(heights: Sequence[float]) -> str:
    """The same as characters; only a height of 0 has none."""
    top = max(heights)
    return "".join(BLOCKS[min(int(8 * height / top), 7)] if height else " " for height in heights)
