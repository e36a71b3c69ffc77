import io
import json

import numpy as np
import pytest
from PIL import Image, ImageOps

from ivit_helpers.errors import InputError
from ivit_helpers.images import folders, transform
from ivit_helpers.images.transform import ImageTransform
from tests.images.make_goldens import GOLDENS as GOLDENS_FILE
from tests.images.make_goldens import checksum, picture


def ramp(width, height):
    """Each pixel tells its place, so that a shifted crop shows."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x % 256, y % 256, (x + y) % 256], -1).astype(np.uint8))


@pytest.mark.parametrize(
    ("width", "height", "left", "top"),
    [
        (224, 224, 0, 0),
        (500, 224, 138, 0),
        (224, 227, 0, 2),
        (227, 224, 2, 0),
        (224, 225, 0, 0),
        (226, 224, 1, 0),
        (229, 224, 2, 0),
    ],
)
def test_the_centre_crop_rounds_half_to_even_as_torchvision_does(width, height, left, top):
    cropped = np.array(ImageTransform().crop(ramp(width, height)))
    assert tuple(cropped[0, 0, :2]) == (left, top)
    assert cropped.shape == (224, 224, 3)


def test_the_long_side_is_cut_to_a_whole_pixel():
    # torchvision: int(224 * 500 / 334) = 335, margin 111, 111 / 2 = 55.5 -> 56
    image = ramp(500, 334)
    expected = image.resize((335, 224), Image.Resampling.BICUBIC).crop((56, 0, 280, 224))
    assert np.array_equal(np.array(ImageTransform().crop(image)), np.array(expected))


def test_pixel_values_are_normalised_by_channel():
    pixels = ImageTransform()(Image.new("RGB", (300, 300), (255, 0, 128)))
    assert pixels.shape == (3, 224, 224)
    expected = [
        (value / 255 - mean) / std
        for value, mean, std in zip((255, 0, 128), transform.IMAGENET_MEAN, transform.IMAGENET_STD, strict=True)
    ]
    assert pixels[:, 5, 5].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("written", [224, {"shortest_edge": 224}, {"height": 224, "width": 224}])
def test_sizes_are_read_from_every_form_of_the_processor_config(written):
    assert ImageTransform.from_json({"size": written, "crop_size": written}).size == 224


def test_a_processor_config_of_transformers_with_nulls_is_read():
    written = {
        "crop_size": None, "crop_to_patches": False, "do_center_crop": None, "do_convert_rgb": True, "do_normalize": True,
        "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "resample": 3,
        "rescale_factor": 0.00392156862745098, "size": {"height": 224, "width": 224, "shortest_edge": None}, "max_patches": 12,
    }  # fmt: skip
    assert ImageTransform.from_json(written) == ImageTransform(224, 224, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("do_normalize", False, "do_normalize is False, and only true is computed"),
        ("do_rescale", 0, "do_rescale is 0, and only true is computed"),
        ("crop_to_patches", True, "crop_to_patches is True, and only false is computed"),
        ("rescale_factor", 1, "rescale_factor is 1, and only 1/255 is computed"),
        ("rescale_factor", "1/255", "rescale_factor is '1/255', and only 1/255 is computed"),
        ("size", {"height": 224, "width": 336}, "size is .*one number of pixels from 1 to 2,048, of a square"),
        ("size", {"longest_edge": 224}, "size is .*of a square"),
        ("size", {}, "size is {}"),
        ("size", 224.0, "size is 224.0"),
        ("size", True, "size is True"),
        ("crop_size", 225, "crop_size is 225, which is larger than size, 224"),
        ("image_mean", [0.5, 0.5], "image_mean is .*a list of three numbers from 0 to 1"),
        ("image_mean", [0.5, 0.5, float("nan")], "image_mean is .*nan"),
        ("image_std", [0.2, 0.2, 0], "image_std is .*a list of three numbers from 0.01 to 1"),
        ("image_std", [0.2, 0.2, "0.2"], "image_std is"),
        ("image_std", 0.2, "image_std is 0.2"),
        ("resample", 17, "resample is 17, and it may be one of 0, 1, 2, 3, 4, 5"),
        ("resample", "bicubic", "resample is 'bicubic'"),
    ],
)
def test_what_a_processor_config_asks_for_is_computed_or_refused(key, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        ImageTransform.from_json({key: value})


def test_modes_are_handled_on_purpose(tmp_path):
    grey = Image.new("L", (4, 4), 100)
    grey.save(tmp_path / "grey.png")
    palette = Image.new("RGBA", (4, 4), (10, 200, 30, 0)).convert("P")
    palette.save(tmp_path / "palette.png", transparency=0)
    Image.fromarray(np.full((4, 4), 0x8000, np.uint16)).save(tmp_path / "deep.png")
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "print.jpg")
    assert transform.read_image(tmp_path / "grey.png").getpixel((0, 0)) == (100, 100, 100)
    assert transform.read_image(tmp_path / "palette.png").mode == "RGB"
    assert transform.read_image(tmp_path / "deep.png").getpixel((0, 0)) == (128, 128, 128)
    assert transform.read_image(tmp_path / "print.jpg").mode == "RGB"
    assert [transform.read_picture(tmp_path / name).cmyk for name in ("print.jpg", "grey.png", "palette.png")] == [
        True,
        False,
        False,
    ]


def turned(path, orientation):
    """A file that stores a ramp of 30 x 20 pixels so that a viewer that obeys the orientation shows it turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    ramp(30, 20).save(path, exif=exif, **{"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {})
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_an_exif_orientation_is_reported_always_and_applied_only_where_asked(tmp_path, suffix, orientation):
    path = turned(tmp_path / f"turned{suffix}", orientation)
    stored, upright = transform.read_picture(path), transform.read_picture(path, upright=True)
    assert stored.orientation == upright.orientation == orientation
    assert np.array_equal(stored.image, Image.open(path).convert("RGB"))
    assert np.array_equal(upright.image, ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    assert np.array_equal(transform.read_image(path), stored.image)
    assert upright.image.size == ((30, 20) if orientation < 5 else (20, 30))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0nonsense",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0\0\0\0\0",
    ],
)
def test_damaged_exif_data_or_an_unknown_orientation_leave_the_pixels_as_they_are(tmp_path, exif):
    ramp(30, 20).save(tmp_path / "x.jpg", exif=exif)
    found = transform.read_picture(tmp_path / "x.jpg", upright=True)
    assert (found.orientation, found.image.size) == (1, (30, 20))


def test_class_folders_become_labels_in_name_order(tmp_path):
    for label in ("b", "a"):
        (tmp_path / label).mkdir()
        ramp(8, 8).save(tmp_path / label / "x.png")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    found = folders.class_folders(tmp_path)
    assert found.classes == ["a", "b"]
    assert [(path.parent.name, label) for path, label in zip(found.paths, found.labels, strict=True)] == [
        ("a", 0),
        ("b", 1),
    ]


def test_a_folder_without_images_is_reported(tmp_path):
    with pytest.raises(InputError, match="holds no class folders with images"):
        folders.class_folders(tmp_path)
    with pytest.raises(InputError, match="There is no folder"):
        folders.class_folders(tmp_path / "absent")


def test_a_draw_is_repeatable_and_depends_on_the_seed():
    draws = [folders.digits().drawn(20, seed).paths for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert len(set(draws[0])) == 20


GOLDENS = json.loads(GOLDENS_FILE.read_text())


@pytest.mark.parametrize(("width", "height", "pixels", "values"), GOLDENS["sizes"])
def test_pixels_and_values_are_torchvisions(width, height, pixels, values):
    """Equal to the bit, by one of the two ways in which versions of Pillow shrink high pictures."""
    image = picture(width, height)
    assert checksum(np.array(ImageTransform().crop(image))) in pixels, GOLDENS["made_with"]
    assert checksum(ImageTransform()(image).numpy()) in values


def test_the_goldens_hold_every_margin_and_both_directions():
    margins = {(int(224 * max(w, h) / min(w, h)) - 224) % 4 for w, h, *_ in GOLDENS["sizes"] if w < h}
    assert margins == {0, 1, 2, 3} == {(int(224 * w / h) - 224) % 4 for w, h, *_ in GOLDENS["sizes"] if w > h}


def test_a_file_that_makes_the_decoder_stumble_is_a_plain_error(tmp_path):
    ramp(64, 64).save(tmp_path / "x.png")
    whole = (tmp_path / "x.png").read_bytes()
    for cut in range(10, len(whole) - 20, 97):
        with pytest.raises((OSError, ValueError)):
            transform.read_image(io.BytesIO(whole[:cut] + bytes(20)))


def test_an_image_of_too_many_pixels_is_a_plain_error(tmp_path, monkeypatch):
    ramp(64, 64).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="DecompressionBombError"):
        transform.read_image(tmp_path / "x.png")


def test_folders_that_are_numbers_name_class_indices(tmp_path):
    for label in ("10", "2", "0"):
        (tmp_path / label).mkdir()
        ramp(8, 8).save(tmp_path / label / "x.png")
    found = folders.class_folders(tmp_path)
    assert [(path.parent.name, label) for path, label in zip(found.paths, found.labels, strict=True)] == [
        ("0", 0),
        ("10", 10),
        ("2", 2),
    ]
    assert len(found.classes) == 11


def test_hidden_folders_are_no_classes(tmp_path):
    for name in ("0", "2", ".ipynb_checkpoints"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 20)).save(tmp_path / name / "x.png")
    found = folders.class_folders(tmp_path)
    assert (list(found.labels), list(found.classes)) == ([0, 2], ["0", "1", "2"])


def test_a_picture_too_narrow_to_be_resized_is_a_plain_error():
    with pytest.raises(ValueError, match="1 x 60000 pixels are too narrow: resized it would be 13,440,000 pixels long"):
        ImageTransform().crop(Image.new("RGB", (1, 60000)))
    assert ImageTransform().crop(Image.new("RGB", (100, 50000))).size == (224, 224)
