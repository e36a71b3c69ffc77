"""Logarithmic axes that can be read: few ticks, each with a plain number or a power of ten."""

import math

from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, LogFormatter, MaxNLocator, NullLocator

LEAST, MOST = 3, 6
"""Ticks of one axis"""
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Plain(FuncFormatter):
    """Numbers as `said` writes them."""


def said(value: float) -> str:
    """A number for a reader: four digits, with thousands apart; very small and very large ones with a power of ten."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
        text = f"{value:,.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, _, exponent = f"{value:.3g}".partition("e") if "e" in f"{value:.3g}" else f"{value:.2e}".partition("e")
    power = f"10{str(int(exponent)).translate(_RAISED)}"
    return power if float(mantissa) == 1 else f"{float(mantissa):g}·{power}"


def readable(axis: Axis) -> None:
    """Give a logarithmic axis ticks at powers of ten, or at 1, 2 and 5 times them where it is short. Own labels are kept."""
    if axis.get_scale() != "log" or not isinstance(axis.get_major_formatter(), LogFormatter):
        return
    low, high = sorted(axis.get_view_interval())
    powers = [
        10.0**power for power in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    ]
    ticks = powers[:: math.ceil(len(powers) / MOST)] if powers else []
    if len(powers) < LEAST:
        tens = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [step * 10.0**power for power in tens for step in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    if len(ticks) < LEAST:
        ticks = [float(tick) for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high and tick > 0]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(Plain(lambda value, _: said(value)))
    axis.set_minor_locator(NullLocator())
