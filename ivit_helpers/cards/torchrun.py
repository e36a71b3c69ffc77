"""torchrun, as a process that ends with the one that started it: `python -m ivit_helpers.cards.torchrun ARGUMENTS OF TORCHRUN`."""

import os

from ivit_helpers.cards.lifeline import end_with_starter, lifeline

if __name__ == "__main__":
    end_with_starter()
    os.environ.update(lifeline())
    from torch.distributed.run import main

    main()
