"""The rows of a benchmark of several cards at once."""

from pydantic import Field

from ivit_helpers.record.rows import Part, waits_for_host


class Estimate(Part):
    """A figure with its 95 % interval, by Student's t over windows; the ends are null for fewer than two windows."""

    mean: float
    low: float | None
    high: float | None


class CardAtOnce(Part):
    """One card while all of them worked."""

    process: int = Field(description="its number, from 0 on")
    card: str
    images_per_s: Estimate = Field(description="while all cards worked")
    calls: int = Field(description="timed calls while all cards worked")
    error: float | None = Field(
        description="relative error of its last hidden state against the first card's, of one image; null where it is not finite"
    )
    host_ms: float | None = Field(
        description="of a call among the others until its last launch returned; null on a CPU"
    )
    device_ms: float | None = Field(description="of the same calls until the device was idle; null on a CPU")

    @property
    def waits(self) -> bool:
        """Whether this card waits for the host that launches its work."""
        return waits_for_host(self.host_ms, self.device_ms)


class CardsAtOnce(Part):
    """All cards at once, and the first of them while the others waited, in windows that follow each other in turn."""

    implementation: str
    dtype: str
    batch_size: int = Field(description="images a call of each card")
    cards: list[CardAtOnce]
    alone_images_per_s: Estimate = Field(description="the first card while the others waited")
    alone_host_ms: float | None = Field(description="as host_ms, of the first card while the others waited")
    alone_device_ms: float | None
    images_per_s: Estimate = Field(
        description="all cards together: their images over the time on the wall, from the first start to the last end"
    )
    kept_by_first: Estimate = Field(description="speed of the first card among the others over its speed alone, 0 to 1")
    scaling_efficiency: Estimate = Field(
        description="images_per_s over that of as many cards like the first alone, 0 to 1"
    )
    windows: int = Field(description="of each kind")

    @property
    def first_waits_alone(self) -> bool:
        """Whether the first card waits for its host even while the others do nothing."""
        return waits_for_host(self.alone_host_ms, self.alone_device_ms)
