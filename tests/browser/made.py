"""Pages as users get them: made by the `ivit` command on the embedded miniature."""

import shutil
import subprocess
import sys
from pathlib import Path

from ivit_helpers.paths import DATA, REPORTS
from ivit_helpers.report.index import write_index

EXAMPLE = REPORTS / "examples" / "miniature-on-2-cpu-cores"
NAMES = ("index", "smoke", "benchmark", "accuracy", "compare", "failed", "stopped")
"""The index of all, a run of three notebooks, its comparison with two other runs, a failed run, and one that was stopped"""
CPU = ("-pdevice=cpu", "-pdtype=float32")
SHORT = ("-pbatch_sizes=1,2", "-pimplementations=fused,transformers-sdpa", "-pwarmup=0", "-prepeats=3", "-pseconds=0.1", "-plimit=100")


def make(root: Path) -> dict[str, Path]:
    """Run the notebooks below `root`; gives the page of each name."""
    images = root / "images"
    for number in range(10):
        (images / str(number)).mkdir(parents=True)
        for image in sorted((DATA / "digits" / str(number)).iterdir())[:3]:
            shutil.copy(image, images / str(number))
    (images / "7" / "broken.png").write_text("not an image")
    _ivit("run", "smoke", "benchmark", "accuracy", *CPU, *SHORT, f"--out={root / 'run'}")
    _ivit("run", "accuracy", *CPU, f"-pdata={images}", f"--out={root / 'failed'}", ends_with=1)
    _ivit("run", "smoke", *CPU, "--cell-timeout=1", f"--out={root / 'stopped'}", ends_with=1)
    _ivit("compare", str(EXAMPLE), str(root / "run"), str(root / "failed"), f"--out={root / 'compared'}", ends_with=None)
    return {
        "index": write_index(root),
        **{name: root / "run" / f"{name}.html" for name in ("smoke", "benchmark", "accuracy")},
        "compare": root / "compared" / "compare.html",
        "failed": root / "failed" / "accuracy.html",
        "stopped": root / "stopped" / "smoke.html",
    }


def _ivit(*words: str, ends_with: int | None = 0) -> None:
    """Run the command. ends_with: its exit code; None where that depends on how busy the machine is."""
    done = subprocess.run([sys.executable, "-m", "ivit_helpers", *words], capture_output=True, text=True)
    assert done.returncode in ({0, 1} if ends_with is None else {ends_with}), done.stderr
