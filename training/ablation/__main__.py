"""``python -m training.ablation``."""

from training.ablation.compare import main

main()
