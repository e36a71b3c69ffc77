"""An accuracy run says what its set holds beside the images, and fails where that could be images."""

import json

import pandas as pd
import pytest
from PIL import Image

from tests.notebook import executed


@pytest.fixture
def given(tmp_path):
    """Parameters for two black images of a zero, beside whatever a test puts into `set`."""
    (tmp_path / "set" / "0").mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (30, 30)).save(tmp_path / "set" / "0" / f"{number}.png")
    return {
        "data": str(tmp_path / "set"),
        "out": str(tmp_path / "out"),
        "device": "cpu",
        "dtype": "float32",
        "workers": 0,
    }


def left(given):
    """The record's check and row, and the page's text."""
    done = executed("accuracy", **given)
    record = json.loads((done.run.folder / "accuracy.json").read_text())
    return (
        {check["name"]: check for check in record["checks"]}["nothing in the set was left out"],
        record["rows"][0],
        " ".join(done.shown),
    )


def test_companions_are_counted_and_named_and_do_not_fail(given, tmp_path):
    (tmp_path / "set" / "0" / "README").write_text("words")
    (tmp_path / "set" / "0" / ".hidden").write_text("words")
    check, row, shown = left(given)
    assert check["status"] == "passed"
    assert (row["images"], row["left_aside"], row["left_aside_possible_images"]) == (2, 2, 0)
    assert "0/README (not an image)" in row["left_aside_first"]
    assert "2; 0/.hidden (hidden); 0/README (not an image)" in shown
    assert "Left aside, because they are not images of the set: 2, all of them in accuracy_left_aside.csv" in shown
    assert list(pd.read_csv(tmp_path / "out" / "accuracy_left_aside.csv")["name"]) == ["0/.hidden", "0/README"]


def test_what_could_be_an_image_fails_the_run_and_is_named_first(given, tmp_path):
    for number in range(10):
        (tmp_path / "set" / "0" / f"{number}.txt").write_text("words")
    (tmp_path / "set" / "0" / "z.jfif").write_bytes((tmp_path / "set" / "0" / "0.png").read_bytes())
    from ivit_helpers.errors import ChecksFailed

    with pytest.raises(ChecksFailed):
        executed("accuracy", **given)
    record = json.loads((tmp_path / "out" / "accuracy.json").read_text())
    check = {check["name"]: check for check in record["checks"]}["nothing in the set was left out"]
    assert check["status"] == "failed"
    assert check["detail"].startswith(
        "1 of the 11 files left aside could be images: 0/z.jfif (an image by its first bytes"
    )
    assert len(record["rows"][0]["left_aside_first"]) == 5
