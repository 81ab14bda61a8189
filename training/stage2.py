"""Stage 2, metric fine-tuning: ``python -m training.stage2 --config config/stage2_bpnet.yaml``.

The engine is that of stage 1; what differs (labelled data, the recipe of losses, the weights to
begin from, 300K iterations) is in the configuration.
"""

from __future__ import annotations

from .stage1 import main

if __name__ == '__main__':
    main(description=__doc__)
