"""All cases."""

from tests.hostile import images, paths

CASES = [*paths.CASES, *images.CASES]
