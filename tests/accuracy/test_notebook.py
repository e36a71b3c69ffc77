"""The accuracy notebook itself over all six image sets, from the official files' formats to the record and the page."""

from collections import OrderedDict

import pytest
import torch

from ivit_helpers.images.imagenet import RULES
from ivit_helpers.model.network import InternViT
from ivit_helpers.record.parameters import AccuracyParameters
from ivit_helpers.report import execute
from ivit_helpers.report.ending import Stop
from tests.accuracy.test_questions import COUNT, independent_logits, labels_for, write
from tests.builders import SMALL
from tests.notebook import executed
from tests.weights.test_head import official


@pytest.fixture
def official_files(model_folder, configuration):
    """A folder of bfloat16 shards with the official head beside them, and the network and head that they hold, read by torch alone."""
    head = official(SMALL.hidden_size, 1000)
    content = {"model": OrderedDict(head.state_dict()), "max_accuracy": 88.23, "epoch": 9, "config": configuration}
    torch.save(content, model_folder / "intern_vit_6b_224px_head.pth")
    tensors = {}
    for shard in model_folder.glob("*.bin"):
        tensors |= {name: tensor.float() for name, tensor in torch.load(shard, weights_only=True).items()}
    network = InternViT(SMALL).eval().requires_grad_(False)
    network.load_state_dict(tensors)
    return model_folder, network, head


@pytest.fixture
def in_a_kernel(tmp_path):
    """Run the notebook as `ivit run` does; gives its record and its page."""

    def run(given):
        record = execute.run_notebook("accuracy", AccuracyParameters(**given), tmp_path / "out", Stop())
        return record, (tmp_path / "out" / "accuracy.html").read_text()

    return run


@pytest.fixture
def in_this_process(tmp_path):
    """Run the notebook's cells; gives the record and what they show."""

    def run(given):
        left = executed("accuracy", **given, out=str(tmp_path / "out"))
        return left.run.record, " ".join(left.shown)

    return run


WAYS = [
    pytest.param(name, "in_a_kernel", marks=pytest.mark.slow) if name == "real" else (name, "in_this_process")
    for name in RULES
]


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_the_notebook_gives_exactly_what_plain_loops_over_the_official_files_give(
    name, way, official_files, tmp_path, request
):
    folder, network, head = official_files
    labels, top1, top5, counted = labels_for(name, independent_logits(network, head))
    assert 0 < top1 < top5 < counted
    text = write(name, labels, tmp_path / "set")
    given = {
        "model": str(folder), "device": "cpu", "dtype": "float32", "data": str(tmp_path / "set"), "image_set": name, "labels": text,
        "verify": True,
    }  # fmt: skip
    found, page = request.getfixturevalue(way)(given)
    assert found.status == "not_judged", found.checks  # no accuracy was published for a network of random weights
    assert {check.status for check in found.checks if not check.deciding} == {"passed"}
    [row] = found.rows
    assert (row.top1_hits, row.top5_hits) == (top1, top5)
    assert (row.images, row.scored, row.unlabelled) == (COUNT, counted, COUNT - counted)
    assert (row.top1, row.top5) == (top1 / counted, top5 / counted)
    assert found.model.head == "BatchNorm (folded) and Linear over class token and mean patch token"
    assert len(found.model.sha256) == 2
    assert f"{top1 / counted:.2%}" in page
