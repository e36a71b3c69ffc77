"""The classes of the image set among the model's classes: matched by name, and by order only where the user asks for it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ivit_helpers.errors import InputError
from ivit_helpers.images.imagenet import readable_names, synsets
from ivit_helpers.images.labelled_images import LabelledImages
from ivit_helpers.images.regular import read_text
from ivit_helpers.record.parameters import AccuracyParameters
from ivit_helpers.weights.head import head_classes, unnamed_classes
from ivit_helpers.weights.loading import Loaded
from ivit_helpers.weights.sources import find, is_hub_id

SHOWN = 5
BY_ORDER = "by-order"
MOST_BYTES = 16 * 2**20
"""Of a file of class names: ImageNet-21k's have 0.5 million"""


def check_classes(asked: AccuracyParameters, images: LabelledImages) -> None:
    """Raise InputError, before anything is loaded, unless every class of the set is a class of the model.

    A model that is still on a hub is checked in the notebook, where it has been downloaded.
    """
    if asked.head:
        model_classes(asked, head_classes(Path(asked.head).expanduser()), images)
    elif not is_hub_id(asked.model):
        model_classes(asked, head_classes(find(asked.model).head), images)


def name_classes(asked: AccuracyParameters, loaded: Loaded, images: LabelledImages) -> Loaded:
    """The same model, its classes named as the parameters say. Raises InputError unless every class of the set is one of them."""
    return replace(loaded, classes=model_classes(asked, loaded.classes, images))


def model_classes(asked: AccuracyParameters, head: Sequence[str], images: LabelledImages) -> tuple[str, ...]:
    """What the model's classes are called, in the order of its outputs: as its head says, unless the parameters say otherwise.

    head: the names in the head. Raises InputError where a class of the set is not a class of the model.
    """
    names = read_class_names(asked.class_names, len(head)) if asked.class_names else tuple(head)
    if asked.classes == BY_ORDER and len(images.classes) <= len(names):
        own = set(images.classes)
        rest = [f"{name} (output {place})" if name in own else name for place, name in enumerate(names)]
        names = (*images.classes, *rest[len(images.classes) :])
    class_indices(images, names)
    return names


def read_class_names(file: str, count: int) -> tuple[str, ...]:
    """The names in a text file, one a line. Raises InputError unless there are `count` different ones."""
    try:
        names = tuple(line.strip() for line in read_text(Path(file).expanduser(), MOST_BYTES).rstrip().split("\n"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"class_names={file!r} cannot be read ({error}): give a text file with one class name a line."
        ) from None
    name, often = Counter(names).most_common(1)[0]
    if often > 1 or "" in names:
        problem = "an empty line" if "" in names else f"the name {name!r} twice"
        raise InputError(f"class_names={file!r} has {problem}: give each class one line and a name of its own.")
    if len(names) != count:
        raise InputError(
            f"class_names={file!r} has {len(names)} names and the model has {count} classes: give one name for each of them."
        )
    return names


def class_indices(images: LabelledImages, classes: Sequence[str]) -> list[int]:
    """For each class of the set, its index in the model's classes, found by its name.

    A model whose classes have no names takes numbers as class indices and, where it has 1000 classes, ImageNet's synset ids.
    Raises InputError where a class of the set is not a class of the model.
    """
    known = {name: index for index, name in enumerate(classes)}
    if tuple(classes) == unnamed_classes(len(classes)):
        known |= {str(index): index for index in range(len(classes))}
        if len(classes) == len(synsets()):
            known |= {synset: index for index, synset in enumerate(synsets())}
    unknown = [name for name in images.classes if name not in known]
    if unknown:
        raise InputError(
            f"{images.name} has {_listed(images.classes)}, and the model has {_listed(classes)}. Not classes of the model: "
            f"{', '.join(unknown[:SHOWN])}. Give images of the model's classes, the head of these classes as head=FILE, the names of the "
            "model's classes as class_names=FILE, or classes=by-order if both lists have the same order."
        )
    return [known[name] for name in images.classes]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} classes ({', '.join(names[:SHOWN])}{more})"


def readable_classes(images: LabelledImages, classes: Sequence[str]) -> tuple[str, ...]:
    """What a reader calls the model's classes: ImageNet's synsets by id and, where it is known, by name."""
    if not set(images.classes) <= set(synsets()) or len(classes) != len(synsets()):
        return tuple(classes)
    readable = dict(zip(synsets(), readable_names(), strict=True))
    return tuple(readable[name] for name in (classes if set(classes) == set(synsets()) else synsets()))


def class_caveats(asked: AccuracyParameters, images: LabelledImages, classes: Sequence[str]) -> list[str]:
    """What a reader must know of how the classes were matched."""
    found = (
        [f"The names of the model's classes come from {Path(asked.class_names).name}, not from its head."]
        if asked.class_names
        else []
    )
    if asked.classes == BY_ORDER and images.classes:
        found.append(
            f"The {len(images.classes)} classes of the images were matched with the first of the model's {len(classes)} by their order "
            "(classes=by-order), not by name: the accuracy holds only if the order is the same."
        )
    return found
