"""Make goldens.json: what torchvision makes of pictures of many sizes, as checksums. Run it where torchvision is installed.

    python tests/make_goldens.py [FOLDER]      FOLDER: an unpacked torchvision wheel, where it is not installed

Every run adds what its own version of Pillow makes: from 13.0 on, Pillow shrinks pictures more than twice as high as wide
otherwise than before, and torchvision inherits that. The tests need the file alone.

torchvision cannot be imported beside a CPU build of torch from the package index, because its compiled operators are missing;
declaring them first is enough, since transforms of PIL images use none of them.
"""

import hashlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image

GOLDENS = Path(__file__).with_name("goldens.json")


def sizes():
    """(width, height): margins of 0 to 11 pixels beyond the crop both ways round, common sizes, and odd ones larger and smaller."""
    margins = [(224, 224 + margin) for margin in range(12)] + [(448, 448 + 2 * margin) for margin in range(1, 12)]
    common = [
        (500, 334),
        (500, 333),
        (500, 375),
        (640, 480),
        (1024, 683),
        (400, 300),
        (150, 100),
        (32, 32),
        (8, 8),
        (60, 299),
    ]
    odd = [(101 + 37 * n % 503, 97 + 61 * n % 491) for n in range(60)]
    return list(dict.fromkeys(pair for size in [*margins, *common, *odd] for pair in (size, size[::-1])))


def picture(width, height):
    """Detail in every direction, computed without a random generator."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x * x + 3 * y, 7 * x + y * y, x * y + 11 * (x ^ y)], -1).astype(np.uint8))


def checksum(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:20]


def torchvision_transforms():
    library, missing = torch.library.Library("torchvision", "FRAGMENT"), set()
    while True:
        try:
            from torchvision import transforms
        except RuntimeError as error:
            [name] = re.findall(r"torchvision::(\w+)", str(error))[:1] or [None]
            if name is None or name in missing:
                raise
            missing.add(name)
            library.define(f"{name}(Tensor x) -> Tensor")
            for module in [module for module in sys.modules if module.startswith("torchvision")]:
                del sys.modules[module]
        else:
            return transforms, sys.modules["torchvision"].__version__


def main():
    sys.path[:0] = sys.argv[1:]
    transforms, version = torchvision_transforms()
    crop = transforms.Compose(
        [transforms.Resize(224, interpolation=transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(224)]
    )
    values = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )
    known = json.loads(GOLDENS.read_text()) if GOLDENS.exists() else {"made_with": [], "sizes": []}
    before = {(width, height): found for width, height, *found in known["sizes"]}
    rows = []
    for size in sizes():
        cropped = crop(picture(*size))
        pixels, numbers = checksum(np.array(cropped)), checksum(values(cropped).numpy())
        old_pixels, old_numbers = before.get(size, ([], []))
        rows.append([*size, sorted({*old_pixels, pixels}), sorted({*old_numbers, numbers})])
    made_with = [*known["made_with"], f"torchvision {version}, Pillow {PIL.__version__}, torch {torch.__version__}"]
    lines = ",\n".join(json.dumps(row) for row in rows)
    GOLDENS.write_text(f'{{"made_with": {json.dumps(made_with)},\n"sizes": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
