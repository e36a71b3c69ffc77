"""Answers are on the disk as they are made, and what is read back is whole."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ivit_helpers.accuracy import journal as journals
from ivit_helpers.accuracy.journal import Followed, Journal, merged, read_journal
from ivit_helpers.errors import InputError

KEY = {"model": "tiny", "seed": 0, "limits": (1, 2)}


def row(number, **others):
    return {"number": number, "id": f"{number}.png", "class1": number % 10, **others}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.journal"


@pytest.fixture
def written(path):
    """A closed journal of three blocks of two rows."""
    with Journal(path, KEY) as journal:
        for number in range(0, 6, 2):
            journal.append([row(number), row(number + 1, score1=0.1 + 0.2, reason="Bär\n")])
            journal.flush()
    return path


def numbers(kept):
    return [found["number"] for found in kept.rows]


def test_rows_come_back_as_they_were_with_the_key(written):
    kept = read_journal(written)
    assert numbers(kept) == [0, 1, 2, 3, 4, 5]
    assert list(kept.rows)[1] == row(1, score1=0.1 + 0.2, reason="Bär\n")
    assert kept.is_of(KEY)
    assert not kept.is_of(KEY | {"seed": 1})
    assert kept.dropped == 0


def test_a_file_that_is_cut_anywhere_keeps_the_rows_of_its_whole_blocks(written):
    whole = written.read_bytes()
    ends = [number + 1 for number, byte in enumerate(whole) if byte == 10]
    for length in range(len(whole)):
        written.write_bytes(whole[:length])
        kept = read_journal(written)
        blocks = sum(end <= length for end in ends)
        assert numbers(kept) == list(range(2 * max(0, blocks - 1)))
        assert (kept.key is None) == (blocks == 0)
        assert kept.dropped == length - ([0, *ends][blocks])


def test_a_damaged_byte_drops_its_block_and_what_follows(written):
    whole = bytearray(written.read_bytes())
    third = whole.index(b'"number":2')
    whole[third + 9] ^= 1
    written.write_bytes(whole)
    assert numbers(read_journal(written)) == [0, 1]


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"noise\n", b"00000000 {}\n", b"\xff" * 50, b'e5d23ec4 {"journal":7}\n']
)
def test_another_file_holds_nothing(path, content):
    path.write_bytes(content)
    kept = read_journal(path)
    assert (kept.key, list(kept.rows)) == (None, [])


def test_where_there_is_no_file_there_are_no_rows(path):
    assert read_journal(path).key is None


def test_who_wrote_and_what_was_measured_come_back(path):
    with Journal(path, KEY, {"process": 3}) as journal:
        journal.append([row(0), row(1)], {"images": 2, "seconds": 0.25})
        journal.append([row(2)], None)  # of a batch without pixels
    kept = read_journal(path)
    assert (kept.by, list(kept.batches)) == ({"process": 3}, [{"images": 2, "seconds": 0.25}])


def test_others_see_a_journal_that_is_being_written(path):
    with Journal(path, KEY):
        assert journals.is_being_written(path)
    assert not journals.is_being_written(path)
    assert not journals.is_being_written(path.with_name("none"))


def test_what_is_written_is_counted_as_it_comes_and_half_a_block_is_not(path):
    followed = Followed(path)
    assert followed.more() == 0
    with Journal(path, KEY) as journal:
        journal.append([row(0), row(1)])
        journal.flush()
        assert (followed.more(), followed.more()) == (2, 0)
        journal.append([row(2)])
        journal.flush()
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    assert followed.more() == 0
    path.write_bytes(whole)
    assert followed.more() == 1


def test_rows_of_several_processes_are_merged_once_each(tmp_path):
    for name, owned in (("a", (0, 2, 4)), ("b", (1, 2, 3))):
        with Journal(tmp_path / name, KEY) as journal:
            journal.append(map(row, owned))
    with Journal(tmp_path / "c", KEY | {"seed": 1}) as journal:
        journal.append([row(9)])
    kept = [read_journal(tmp_path / name) for name in "abc"]
    assert [found["number"] for found in merged(kept, KEY)] == [0, 1, 2, 3, 4]


def test_two_answers_to_one_image_are_refused(tmp_path):
    for name, answer in (("a", 1), ("b", 2)):
        with Journal(tmp_path / name, KEY) as journal:
            journal.append([{"number": 0, "class1": answer}])
    with pytest.raises(InputError, match="Two processes answered image 0 differently"):
        list(merged([read_journal(tmp_path / name) for name in "ab"], KEY))


def test_a_journal_that_cannot_be_written_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="cannot be written .No such file or directory.: make room"):
        Journal(tmp_path / "none" / "a.journal", KEY)


def test_a_full_disk_is_one_sentence():
    with pytest.raises(InputError, match="cannot be written .No space left on device."):
        Journal(Path("/dev/full"), KEY)


KILLED = """
import importlib.util, os, signal, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("journal", sys.argv[2])  # alone, without the seconds that torch takes
sys.modules["journal"] = journals = importlib.util.module_from_spec(spec)
spec.loader.exec_module(journals)
journals.SECONDS = 0
journal = journals.Journal(Path(sys.argv[1]), {"seed": 0})
for number in range(5):
    journal.append([{"number": number}])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_had_appended_is_there(path):
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path), journals.__file__], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert numbers(read_journal(path)) == [0, 1, 2, 3, 4]
