"""``python -m training.scenes``."""

from training.scenes.frames import main

if __name__ == '__main__':
    main()
