"""What a model folder says of its preprocessing -> the transform of its images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ivit_helpers.errors import InputError
from ivit_helpers.images.transform import ImageTransform
from ivit_helpers.model.network import InternViTConfig
from ivit_helpers.weights.regular import is_there, read_json, shown

SMALLEST_CROP = 0.25
"""timm crops 0.8 to 1 of a side"""


def processor_of_timm(content: Mapping[str, Any], side: int) -> Mapping[str, Any]:
    """The preprocessing in a config.json of timm by the keys of a preprocessor_config.json; nothing for any other config.json.

    Raises ValueError for one that cannot be.
    """
    if (written := content.get("pretrained_cfg")) is None:
        return {}
    if not isinstance(written, Mapping) or (missing := {"crop_pct", "interpolation", "mean", "std"} - written.keys()):
        raise ValueError(
            f"pretrained_cfg has no {', '.join(sorted(missing)) if isinstance(written, Mapping) else 'keys'}"
        )
    crop, resample = (
        written["crop_pct"],
        {kind.name.lower(): kind.value for kind in Image.Resampling}.get(shown(written["interpolation"]).strip("'")),
    )
    if type(crop) not in (int, float) or not SMALLEST_CROP <= crop <= 1 or resample is None:
        raise ValueError(
            f"crop_pct is {shown(crop)} and interpolation {shown(written['interpolation'])}, where a share from {SMALLEST_CROP} to 1 and "
            "a resampling such as 'bicubic' are expected"
        )
    return {"size": int(side / crop), "image_mean": written["mean"], "image_std": written["std"], "resample": resample}


def _side_of_patches(transform: ImageTransform, patch_size: int) -> ImageTransform:
    if transform.crop_size % patch_size:
        raise ValueError(
            f"crop_size is {transform.crop_size}, and the network needs a multiple of its patch_size, {patch_size}"
        )
    return transform


def transform_in(folder: Path, published: Mapping[str, Any], config: InternViTConfig) -> ImageTransform:
    """The transform that a model folder describes. Where it is silent: the official transform, at the network's image size.

    published: the content of its config.json. Raises InputError for a description that cannot be, or that is not computed here.
    """
    path, official = folder / "preprocessor_config.json", {"size": config.image_size, "crop_size": config.image_size}
    source = path if is_there(path) else folder / "config.json"
    try:
        written = read_json(path) if source == path else processor_of_timm(published, config.image_size)
        given = official | {key: value for key, value in written.items() if value is not None}
        return _side_of_patches(ImageTransform.from_json(given), config.patch_size)
    except ValueError as error:
        raise InputError(
            f"{source} does not hold the sizes, means and deviations of a processor that is computed here: {error}."
        ) from None
