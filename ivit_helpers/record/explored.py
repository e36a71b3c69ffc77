"""The rows of an explore run's record, with the unit and meaning of every field. All are of the image that the parameters name."""

from pydantic import Field

from ivit_helpers.record.rows import Part


class ExploreRow(Part):
    """The difference between the two sides after one block. Differences are relative: root mean square over that of the other side."""

    block: int = Field(description="0: after the embeddings")
    difference: float | None = Field(description="of all tokens; null where it is not finite")
    transformers: float | None = Field(
        None,
        description="of transformers' network on the CPU in this dtype, against the same reference; null where that is not computed",
    )
    class_token: float | None = Field(None, description="of the class token, over the root mean square of a token")
    largest: float | None = Field(
        None, description="of the patch with the largest difference, over the root mean square of a token"
    )
    largest_at: int | None = Field(None, description="which patch that is, counted from 1 in rows")


class Answer(Part):
    """One of the classes with the highest scores."""

    name: str
    score: float | None = Field(description="softmax, 0 to 1")


class Neighbour(Part):
    """An image of the gallery."""

    name: str = Field(description="its path in the gallery")
    similarity: float | None = Field(description="cosine of the two class tokens after the last block")
    label: str | None = Field(None, description="its class; null in a gallery without class folders")
