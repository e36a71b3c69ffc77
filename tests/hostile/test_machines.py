"""Machines that are short of something: a full disk, a read-only disk, no shared memory, a terminal that knows ASCII only."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ivit_helpers.record.record import read

ROOT = Path(__file__).parents[2]
QUICK = ["-p", "device=cpu", "-p", "dtype=float32", "-p", "batch_size=2", "-p", "limit=6", "-p", "bad_limit=0"]


def may_mount():
    return (
        bool(shutil.which("unshare"))
        and subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode == 0
    )


needs_mounts = pytest.mark.skipif(
    not may_mount(), reason="this machine lets nobody mount a disk of their own (unshare -rm)"
)


def ivit(*words, mount="true", **environment):
    """Run the command where `mount`, a line of shell, was run before it; gives the finished process."""
    line = f'{mount} && exec "$@"'
    prefix = ["unshare", "-rm"] if mount != "true" else []
    return subprocess.run(
        [*prefix, "sh", "-c", line, "sh", sys.executable, "-m", "ivit_helpers", *map(str, words)],
        capture_output=True, cwd=ROOT, check=False, env={**os.environ, "TQDM_DISABLE": "1", **environment},
    )  # fmt: skip


@needs_mounts
def test_a_full_disk_is_reported_before_anything_starts(tmp_path):
    done = ivit(
        "run", "smoke", *QUICK[:4], "--out", tmp_path / "run", mount=f"mount -t tmpfs -o size=64k none {tmp_path}"
    )
    assert done.returncode == 2
    assert b"cannot be written" in done.stderr or b"of free space" in done.stderr
    assert b"Traceback" not in done.stderr


@needs_mounts
def test_a_disk_with_little_room_is_reported_with_its_size(tmp_path):
    done = ivit(
        "run", "smoke", *QUICK[:4], "--out", tmp_path / "run", mount=f"mount -t tmpfs -o size=8m none {tmp_path}"
    )
    assert done.returncode == 2
    assert b"MiB of free space and a run may need 64" in done.stderr


@needs_mounts
def test_a_read_only_disk_is_reported_before_anything_starts(tmp_path):
    done = ivit("run", "smoke", *QUICK[:4], "--out", tmp_path / "run", mount=f"mount -t tmpfs -o ro none {tmp_path}")
    assert done.returncode == 2
    assert b"cannot be written (Read-only file system): give another folder with --out." in done.stderr


@pytest.mark.slow
def test_a_terminal_that_knows_ascii_only_gets_its_summary(tmp_path):
    environment = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = ivit("run", "accuracy", *QUICK, "--out", tmp_path / "run", **environment)
    assert done.returncode in (0, 1), done.stderr
    assert b"Traceback" not in done.stderr
    assert b"accuracy: " in done.stdout
    assert read(tmp_path / "run" / "accuracy.json").status != "incomplete"


@needs_mounts
@pytest.mark.parametrize(
    "mount",
    [
        "mount -t tmpfs -o ro none /dev/shm",
        "mount -t tmpfs -o size=4k none /dev/shm && head -c 4096 /dev/zero > /dev/shm/x",
    ],
)
def test_shared_memory_that_cannot_be_used_is_named_with_the_way_without_it(tmp_path, mount):
    done = ivit("run", "accuracy", *QUICK, "-p", "workers=2", "--out", tmp_path / "run", mount=mount)
    assert done.returncode == 2
    assert b"workers=2: shared memory (/dev/shm) cannot be used: " in done.stderr
    assert b"run with workers=0" in done.stderr
    assert not (tmp_path / "run").exists()


@needs_mounts
def test_without_shared_memory_images_are_decoded_in_the_own_process(tmp_path):
    code = (
        "from ivit_helpers.images import decoding\nfrom ivit_helpers.images.decoding import batches\n"
        "from ivit_helpers.images.folders import digits\n"
        "from ivit_helpers.images.transform import ImageTransform\n"
        "decoding.WORTHWHILE_SECONDS = 0\n"
        "print(sum(len(batch.images) for batch in batches(digits().drawn(20, 0), ImageTransform(56, 56), 8)))"
    )
    line = 'mount -t tmpfs -o ro none /dev/shm && exec "$@"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", line, "sh", sys.executable, "-c", code],
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"20\n"), done.stderr
