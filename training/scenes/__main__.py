"""``python -m training.scenes``."""

from training.scenes.frames import main

main()
