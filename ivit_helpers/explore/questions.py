"""The questions of the explore notebook: each answers with pictures, live where somebody can touch them, and is kept in the record."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ivit_helpers.explore import pictures, scores
from ivit_helpers.explore.desk import Desk, ExploreRun
from ivit_helpers.explore.gallery import gallery_images, nearest, thumbnail
from ivit_helpers.explore.looking import view_of
from ivit_helpers.explore.saved import FILE, origin_of, packed
from ivit_helpers.explore.sides import ON_THE_CPU, compare
from ivit_helpers.images.decoding import Decoded
from ivit_helpers.images.single import named_image
from ivit_helpers.record.parameters import ExploreParameters
from ivit_helpers.record.record import ExploreRecord
from ivit_helpers.record.rows import Neighbour
from ivit_helpers.report.figure import Together
from ivit_helpers.report.panels import Panel, Panels, photograph
from ivit_helpers.report.table import Facts, Sentence, facts
from ivit_helpers.weights.loading import Loaded
from ivit_helpers.weights.sources import find, is_hub_id

AGREEMENT = "both sides agree"


def check_inputs(asked: ExploreParameters) -> int:
    """The number of images of the gallery. Reads no weights.

    Raises InputError where the image, the gallery or the states of the other side are not there, and for a block, head or patch that
    the network does not have.
    """
    named_image(asked.image_path)
    if asked.other != ON_THE_CPU:
        origin_of(asked.other)
    if not is_hub_id(asked.model):  # what is not here yet is measured once it is
        view_of(asked, find(asked.model, asked.head).config)
    return len(gallery_images(asked))


def begin(run: ExploreRun, loaded: Loaded) -> Facts:
    """Record the model, and add to the verdict what limits the result."""
    described = loaded.facts()
    run.note(model=described, caveats=loaded.caveats())
    if not loaded.head_is_trained:
        run.caveat("The classification head is random: the names of its answers mean nothing.")
    for verdict in loaded.kernel_verdicts:
        run.check(
            f"fused {verdict.kernel}",
            not verdict.refused,
            str(verdict) + ("; the plain one is used" if verdict.refused else ""),
        )
    shown = {
        "name",
        "parameters",
        "layers",
        "heads",
        "image_size",
        "patch_size",
        "dtype",
        "kernels",
        "head",
        "classes",
        "load_seconds",
    }
    return facts(described.model_dump(include=shown, exclude_none=True), "Model")


def look(run: ExploreRun, loaded: Loaded) -> Desk:
    """Read the image that the parameters name. Raises InputError where it cannot be shown to this network."""
    desk = Desk(run, loaded)
    run.note(image=desk.looked.name, image_checksum=desk.looked.checksum)
    return desk


def blocks(desk: Desk) -> Any:
    """What one block sees, chosen by hand; on a page, the block of the parameters, and the image from block to block."""
    shown = desk.states, desk.looked, desk.view
    still = Together(Sentence(pictures.in_words(*shown)), pictures.view_panels(*shown), pictures.strip(*shown))
    if not desk.is_live:
        return still
    from ivit_helpers.explore.touch import block_desk

    return block_desk(desk, still)


def answers(desk: Desk) -> Any:
    """The five highest scores as bars, and in the record."""
    found = scores.best_answers(desk.states.logits(desk.looked, desk.loaded.head), desk.loaded.classes)
    finite = all(one.score is not None for one in found)
    desk.run.note(answers=found)
    desk.run.check(
        "every score is finite", finite, f"the first of {len(desk.loaded.classes):,} classes is {found[0].name}"
    )

    def shown() -> Any:
        now = scores.best_answers(desk.states.logits(desk.looked, desk.loaded.head), desk.loaded.classes)
        return Together(
            Sentence(scores.in_words(now, desk.looked.name)), scores.bars(now, desk.loaded, desk.looked.name)
        )

    return _live(desk, "answers", shown, lambda: desk.looked)


def neighbours(desk: Desk) -> Any:
    """The images of the gallery whose class tokens are most like the image's, and in the record."""
    found = [one for _, one in _nearest(desk)]
    gallery = desk.gallery
    desk.run.note(gallery=gallery.images.name, gallery_images=len(gallery.decoded), neighbours=found)
    if gallery.unreadable:
        desk.run.caveat(
            f"{gallery.unreadable:,} images of the gallery {gallery.images.name} could not be decoded and are left out."
        )

    def shown() -> Any:
        near = _nearest(desk)
        panels = [
            Panel(photograph(thumbnail(one), found.name), f"{found.name}: {found.similarity or 0:.3f}")
            for one, found in near
        ]
        first = Panel(photograph(desk.looked.crop, desk.looked.name), f"{desk.looked.name}, the image itself")
        where = f"the {len(gallery.decoded):,} images of {gallery.images.name}"
        answer = Sentence(alike([found for _, found in near], desk.looked.name, where))
        return Together(
            answer, Panels([first, *panels], "Nearest first, with the cosine of the class tokens", small=True)
        )

    return _live(desk, "neighbours", shown, lambda: desk.looked)


def alike(found: Sequence[Neighbour], name: str, where: str) -> str:
    """Which image is nearest, and how many of the next ones have its class, in one sentence."""
    if not found:
        return f"There is no other image among {where}."
    label, of_it = found[0].label, sum(one.label == found[0].label for one in found)
    same = "" if label is None else f"; of the {len(found)} nearest {of_it} have the class {label}"
    return f"Of {where}, {found[0].name} is most like {name}{same}."


def _nearest(desk: Desk) -> list[tuple[Decoded, Neighbour]]:
    return nearest(desk.gallery, desk.looked, desk.states.after(desk.looked, desk.config.num_hidden_layers)[0])


def two_sides(desk: Desk) -> Any:
    """The difference between this device and the other side, block by block; the check is the notebook's own question."""
    sides = compare(desk.loaded, desk.looked, desk.asked.other)
    desk.sides = replace(sides, states=())
    run = desk.run
    run.note(rows=sides.rows(), other=sides.other)
    run.check(
        "every hidden state is finite", sides.finite == sides.values, f"{sides.finite:,} of {sides.values:,} values"
    )
    passed, detail = sides.judgement
    run.check(AGREEMENT, passed, f"{sides.other}: {detail}", deciding=True)
    if desk.asked.save:
        run.file(FILE, packed(sides.states, desk.looked, desk.loaded, sides.peer))
    if not desk.is_live:
        return sides.shown()
    from ivit_helpers.explore.touch import sides_desk

    return sides_desk(desk, sides.shown())


def where(desk: Desk) -> Any:
    """Where in the image the two sides differ after a block."""

    def shown() -> Any:
        assert desk.sides is not None
        return desk.sides.where(desk.view.block, desk.config.grid)

    return _live(desk, "where", shown, lambda: (desk.sides, desk.view.block))


def _live(desk: Desk, name: str, shown: Callable[[], Any], of: Callable[[], object]) -> Any:
    """What is shown now, and on a page for ever; in JupyterLab it follows what `of` gives."""
    if not desk.is_live:
        return shown()
    from ivit_helpers.explore.touch import following

    return following(desk, name, shown, of)


def headline(record: ExploreRecord) -> str:
    """The key figures of an explore run in words."""
    parts = []
    if record.rows:
        last = record.rows[-1]
        difference = (
            "not finite" if last.difference is None else f"{last.difference:.1e}" if last.difference else "none"
        )
        parts.append(f"relative difference after block {last.block} {difference} (from {record.other})")
    if record.answers and record.answers[0].score is not None:
        parts.append(f"first answer {record.answers[0].name} ({100 * record.answers[0].score:.1f} %)")
    if record.neighbours:
        nearest_one = record.neighbours[0]
        parts.append(f"nearest of {record.gallery_images:,} images {nearest_one.name}")
    return f"{record.image}: {', '.join(parts)}" if parts else "Nothing was looked at"
