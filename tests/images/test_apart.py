"""Parsers that can crash run in a process of their own, which ends in one sentence."""

import json
import os
import signal

import psutil
import pytest

from ivit_helpers.images import apart, layouts
from ivit_helpers.images.apart import MIB, Apart, ParserError
from tests.images.test_layouts import COLOURS, asked, encoded, write_parquet

CELL = {"bytes": encoded(COLOURS[0]), "path": "a.png"}


@pytest.fixture
def shard(tmp_path):
    write_parquet(tmp_path / "x.parquet", [CELL] * 4, [1, 2, 3, 4])
    return tmp_path / "x.parquet"


def index(parser, shard):
    return json.loads(parser.call("parquet_file:index", os.fsencode(shard).hex()))


@pytest.fixture
def started():
    """Processes of this one that were started in the meantime."""
    before = {child.pid for child in psutil.Process().children()}
    return lambda: [child for child in psutil.Process().children() if child.pid not in before]


def test_a_call_gives_what_the_function_gives(shard):
    assert index(Apart(512 * MIB), shard)["labels"] == ["1", "2", "3", "4"]


def test_a_process_that_was_killed_is_one_sentence_and_the_next_call_has_a_new_one(shard, started):
    parser = Apart(512 * MIB)
    index(parser, shard)
    [process] = started()
    process.send_signal(signal.SIGSEGV)
    with pytest.raises(
        ParserError, match="the process that parses it crashed .exit code -11., most often at its limit of 512 MiB"
    ):
        index(parser, shard)
    assert len(index(parser, shard)["names"]) == 4


def test_what_has_failed_as_one_is_not_parsed_again(shard, started):
    parser = Apart(512 * MIB)
    for _ in range(2):
        with pytest.raises(ParserError, match="No such file"):
            parser.call("parquet_file:cell", b"/no/such".hex(), "image", 0, 0, unit=("group", 0))
        for process in started():
            process.kill()


def test_an_answer_that_does_not_come_ends_the_process(shard, started, monkeypatch):
    parser = Apart(512 * MIB)
    index(parser, shard)
    [process] = started()
    process.suspend()
    monkeypatch.setattr(apart, "PATIENCE", 0)
    with pytest.raises(ParserError, match="gave no answer in 0 s"):
        index(parser, shard)
    assert not process.is_running()


def test_more_memory_than_the_limit_is_one_sentence(tmp_path):
    write_parquet(tmp_path / "x.parquet", [CELL] * 200_000, [1] * 200_000, group=200_000)
    with pytest.raises(ParserError, match="takes more than 32 MiB|crashed"):
        index(Apart(32 * MIB), tmp_path / "x.parquet")


def test_a_shard_that_is_replaced_by_noise_costs_its_images(shard):
    found = layouts.image_set(asked(shard, image_set="folder"))
    shard.write_bytes(b"PAR1 and nothing more")
    with pytest.raises(ValueError, match="File too short"):
        found.picture(0)
