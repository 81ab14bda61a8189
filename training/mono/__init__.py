"""Distillation of monocular networks: ``python -m training.mono --config FILE``.

Two papers' methods on one engine: label-free distillation of a light student (Gao et al., ICASSP
2024) and Distill Any Depth (He et al., 2025). Only images go in.
"""
