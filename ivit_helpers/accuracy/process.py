"""What torchrun runs for each card of an accuracy run: `python -m ivit_helpers.accuracy.process SETTINGS`."""

from ivit_helpers.accuracy.worker import work
from ivit_helpers.distributed import serve

if __name__ == "__main__":
    serve(work)
