"""Pages as users get them: made by the `ivit` command on the embedded miniature."""

import shutil
from pathlib import Path

from ivit_helpers.paths import DATA, REPORTS
from ivit_helpers.record.parameters import MODEL_NOTEBOOKS
from ivit_helpers.report.index import write_index
from tests.shell import CPU, shell

EXAMPLE = REPORTS / "examples" / "miniature-on-2-cpu-cores"
NAMES = ("index", "smoke", "benchmark", "accuracy", "explore", "compare", "failed", "stopped")
"""The index of all, a run of four notebooks, its comparison with two other runs, a failed run, and one that was stopped"""


def make(run: Path) -> dict[str, Path]:
    """Make what is missing beside the folder of a run of the four notebooks; gives the page of each name."""
    root = run.parent
    images = root / "images"
    for number in range(10):
        (images / str(number)).mkdir(parents=True)
        for image in sorted((DATA / "digits" / str(number)).iterdir())[:3]:
            shutil.copy(image, images / str(number))
    (images / "7" / "broken.png").write_text("not an image")
    shell(f"ivit run accuracy {CPU} -p data={images} --out {root / 'failed'}", ends_with=(1,))
    shell(f"ivit run smoke {CPU} --cell-timeout 1 --out {root / 'stopped'}", ends_with=(1,))
    busy_or_not = (0, 1)  # beside other work a speed may be worse
    shell(f"ivit compare {EXAMPLE} {run} {root / 'failed'} --out {root / 'compared'}", ends_with=busy_or_not)
    return {
        "index": write_index(root),
        **{name: run / f"{name}.html" for name in MODEL_NOTEBOOKS},
        "compare": root / "compared" / "compare.html",
        "failed": root / "failed" / "accuracy.html",
        "stopped": root / "stopped" / "smoke.html",
    }
