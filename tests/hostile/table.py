"""All cases, in the order of the document that lists them."""

from tests.hostile import images, paths, weights

SECTIONS = {"Paths, values and neighbours": paths.CASES, "Weights and configurations": weights.CASES, "Images and labels": images.CASES}
CASES = [case for cases in SECTIONS.values() for case in cases]
