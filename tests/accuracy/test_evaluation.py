"""An evaluation goes on where an unfinished one ended: nothing is lost, doubled or different."""

import dataclasses
import json

import pytest
import torch

from ivit_helpers.accuracy import card_table, earlier, evaluation, predictions, questions
from ivit_helpers.accuracy.journal import Journal, read_journal
from ivit_helpers.device import cpu
from ivit_helpers.errors import InputError
from ivit_helpers.images import folders
from ivit_helpers.images.labelled_images import LabelledImages
from ivit_helpers.record.parameters import AccuracyParameters
from ivit_helpers.record.record import read
from ivit_helpers.record.run import start
from ivit_helpers.weights.loading import load
from ivit_helpers.weights.sources import find

IMAGES = 23


class Begun:
    """A run of the notebook's cells as far as the answers, over a few digits."""

    def __init__(self, folder, loaded, **given):
        self.asked = AccuracyParameters(
            out=str(folder), device="cpu", limit=IMAGES, workers=0, **{"batch_size": 4, **given}
        )
        self.run, self.loaded = start(self.asked), loaded
        self.images = folders.digits().drawn(IMAGES, 0)
        questions.begin(self.run, loaded, self.images)

    def answers(self):
        return evaluation.evaluate(self.run, self.loaded, self.images, self.asked)

    def finish(self):
        found = self.answers()
        row = questions.keep(self.run, found, self.loaded)
        self.run.finish(questions.headline(row, self.loaded))
        self.run.close()
        return found.table


@pytest.fixture
def begin(tmp_path, tiny):
    return lambda loaded=tiny, **given: Begun(tmp_path / "out", loaded, **given)


@pytest.fixture
def uninterrupted(tmp_path, tiny):
    return Begun(tmp_path / "other", tiny).finish()


@pytest.fixture
def decoded(monkeypatch):
    """The images that are decoded, in order; `stop_at` of them, and the user interrupts."""
    seen = []
    picture = LabelledImages.picture

    def watched(self, index):
        seen.append(index)
        if len(seen) == watched.stop_at:
            raise KeyboardInterrupt
        return picture(self, index)

    watched.stop_at = 0
    monkeypatch.setattr(LabelledImages, "picture", watched)
    return seen, watched


def stopped_in_its_middle(begun, decoded, at=11):
    seen, watched = decoded
    watched.stop_at = at
    with pytest.raises(KeyboardInterrupt):
        begun.answers()
    begun.run.close()
    watched.stop_at = 0
    seen.clear()


def test_answers_are_kept_until_the_conclusion_and_then_the_table_has_them(begin):
    begun = begin()
    found = begun.answers()
    [path] = earlier.journals(begun.run.folder)
    kept = read_journal(path)
    assert [row["id"] for row in kept.rows] == found.named(found.table)["id"].tolist()
    assert kept.by["run"] == begun.run.record.id
    row = questions.keep(begun.run, found, begun.loaded)
    assert path.exists(), "the run may still be killed before its conclusion"
    begun.run.finish(questions.headline(row, begun.loaded))
    assert not earlier.journals(begun.run.folder)
    assert (begun.run.folder / "accuracy_predictions.csv").exists()


def test_the_same_command_goes_on_where_an_interrupted_run_ended(begin, uninterrupted, decoded):
    seen, _ = decoded
    first = begin()
    stopped_in_its_middle(first, decoded)
    second = begin()
    table = second.finish()
    assert seen == list(range(8, IMAGES)), "an image was answered twice, or left out"
    assert table.to_csv() == uninterrupted.to_csv()
    [one] = second.run.record.interruptions
    assert (one.run, one.images, one.journals, one.dropped_bytes) == (first.run.record.id, 8, 1, 0)
    assert one.reason == "it has not reached its conclusion"
    assert second.run.record.cards[0].images == IMAGES - 8
    assert not earlier.journals(second.run.folder)


def test_a_run_that_is_interrupted_again_and_again_lists_every_interruption(begin, uninterrupted, decoded):
    for at in (6, 6, 6):
        stopped_in_its_middle(begin(), decoded, at)
    last = begin()
    assert last.finish().to_csv() == uninterrupted.to_csv()
    assert [one.images for one in last.run.record.interruptions] == [4, 4, 4]


def test_a_half_written_block_is_dropped_and_its_images_are_answered_again(begin, uninterrupted, decoded):
    seen, _ = decoded
    first = begin()
    stopped_in_its_middle(first, decoded)
    [path] = earlier.journals(first.run.folder)
    path.write_bytes(path.read_bytes()[:-20])
    second = begin()
    assert second.finish().to_csv() == uninterrupted.to_csv()
    assert seen == list(range(IMAGES))
    assert second.run.record.interruptions[0].dropped_bytes > 1000


def test_an_unfinished_run_may_go_on_with_smaller_batches(begin, uninterrupted, decoded):
    seen, _ = decoded
    stopped_in_its_middle(begin(), decoded)
    table = begin(batch_size=3).finish()
    assert seen == list(range(8, IMAGES))
    assert table["class1"].tolist() == uninterrupted["class1"].tolist()


def test_a_run_of_another_key_begins_anew_and_says_what_changed(begin, decoded, cpu, capsys):
    seen, _ = decoded
    first = begin()
    stopped_in_its_middle(first, decoded)
    second = begin(load(find("tiny"), cpu, torch.bfloat16))
    second.finish()
    assert seen == list(range(IMAGES))
    expected = "the answers of an earlier run in its folder are of something else (dtype: float32 there, bfloat16 here"
    assert expected in second.run.record.anew
    assert expected in capsys.readouterr().out
    assert second.run.record.interruptions == []
    [aside] = (second.run.folder / "earlier").glob("*/*.journal")
    assert len(read_journal(aside).rows) == 8


def test_the_folder_of_a_finished_run_is_begun_anew_as_ever(begin, decoded):
    seen, _ = decoded
    begin().finish()
    seen.clear()
    again = begin()
    again.finish()
    assert seen == list(range(IMAGES))
    assert (again.run.record.interruptions, again.run.record.anew) == ([], "")
    assert len(list((again.run.folder / "earlier").glob("*/accuracy.json"))) == 1


def test_a_run_that_ended_between_its_last_answer_and_its_conclusion_answers_nothing_again(
    begin, uninterrupted, decoded
):
    seen, _ = decoded
    first = begin()
    first.answers()
    first.run.close()
    seen.clear()
    second = begin()
    assert second.finish().to_csv() == uninterrupted.to_csv()
    assert seen == []
    assert second.run.record.cards == []
    assert "nothing was left to answer" in card_table.cards_table(second.run)._repr_html_()


def test_a_cell_that_runs_again_answers_nothing_again(begin, decoded):
    seen, _ = decoded
    begun = begin()
    first = begun.answers()
    seen.clear()
    assert begun.answers().table.to_csv() == first.table.to_csv()
    assert seen == []
    assert begun.run.record.interruptions == []


def test_a_card_that_runs_out_of_memory_leaves_its_answers_and_the_command_that_goes_on(begin, uninterrupted, tiny):
    class Full(torch.nn.Module):
        """A head that gives out after three batches."""

        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, hidden):
            self.calls += 1
            if self.calls > 3:
                raise torch.OutOfMemoryError("out of memory: tried to allocate 2 GiB")
            return tiny.head(hidden)

    first = begin(dataclasses.replace(tiny, head=Full()))
    with pytest.raises(InputError) as error:
        first.answers()
    first.run.close()
    command = f"ivit run accuracy -p device=cpu -p batch_size=4 -p limit={IMAGES} -p workers=0 --out {first.run.folder}"
    assert f"{IMAGES - 12} of {IMAGES} images are not answered, because a process ended early: process 0 (cpu (" in str(
        error.value
    )
    assert "out of memory: tried to allocate 2 GiB" in str(error.value)
    assert str(error.value).endswith(f"Go on with: {command}")
    left = read(first.run.path)
    assert (left.status, left.resume, left.cards[0].images) == ("incomplete", command, 12)
    assert begin().finish().to_csv() == uninterrupted.to_csv()


def test_a_bug_is_not_taken_for_a_card_that_is_lost(begin, tiny):
    class Wrong(torch.nn.Module):
        def forward(self, hidden):
            raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        begin(dataclasses.replace(tiny, head=Wrong())).answers()


@pytest.mark.parametrize(
    "said",
    [
        "the error code is 507015, the core is lost",
        "FORCE STOP",
        "UCE ERROR",
        "HBM MULTI BIT ECC ERROR",
        "SUSPECT MEM ERROR",
    ],
)
def test_what_a_lost_npu_says_is_known(said):
    from ivit_helpers.device.npu import NPU

    assert NPU.is_lost(RuntimeError(said))
    assert "the card is lost to this process: look at it with `npu-smi info`" in NPU.explain(RuntimeError(said))


@pytest.mark.parametrize("said", ["error code 507011", "line 1507015", "a shape of 507 x 224"])
def test_other_numbers_do_not_mean_a_lost_npu(said):
    from ivit_helpers.device.npu import NPU

    assert not NPU.is_lost(RuntimeError(said))
    assert not cpu.CPU.is_lost(RuntimeError(said))


def test_a_journal_that_another_process_still_writes_is_waited_for_and_then_refused(begin, monkeypatch):
    monkeypatch.setattr(earlier, "PATIENCE", 0.0)
    begun = begin()
    with (
        Journal(earlier.journal_path(begun.run.folder, 1, 0), {}),
        pytest.raises(InputError, match="is still being written by a process"),
    ):
        begun.answers()


def test_what_is_left_is_in_the_batches_of_the_whole_set(tmp_path):
    with Journal(tmp_path / "a", {}) as journal:
        journal.append([{"number": number} for number in (0, 1, 2, 3, 9)])
    left = earlier.unanswered([read_journal(tmp_path / "a")], 11, 4)
    assert [list(group) for group in left] == [[4, 5, 6, 7], [8, 10]]


def test_the_key_names_what_decides_an_answer(tiny, tmp_path):
    from ivit_helpers.accuracy.key import differences, key_of

    images = folders.digits().drawn(5, 0)
    key = key_of(tiny, images)
    assert json.loads(json.dumps(key)) == key
    assert differences(key, key_of(tiny, images)) == ""
    others = {
        "images, labels and classes": (tiny, dataclasses.replace(images, labels=[1, 2, 3, 4, 5])),
        "transform": (
            dataclasses.replace(
                tiny, checkpoint=dataclasses.replace(tiny.checkpoint, transform=type(tiny.checkpoint.transform)(30, 28))
            ),
            images,
        ),
        "dtype": (dataclasses.replace(tiny, dtype=torch.float16), images),
        "head": (dataclasses.replace(tiny, head_source=dataclasses.replace(tiny.head_source, sha256="0")), images),
        "weights": (dataclasses.replace(tiny, sha256={tiny.checkpoint.files[0].name: "0"}), images),
    }
    for name, (loaded, found) in others.items():
        assert differences(key, key_of(loaded, found)).startswith(f"{name}: "), name
    assert predictions.answers_of(images, tiny) == ()
