"""``python -m training.ablation``."""

from training.ablation.compare import main

if __name__ == '__main__':
    main()
