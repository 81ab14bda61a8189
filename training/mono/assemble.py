"""Weights of two-stage completion from its parts: ``python -m training.mono.assemble --help``.

A student of ``training.mono`` and, unless its own beginning will do, a light completion network,
which ``training.stage1`` then trains on (``network: two_stage``, ``initial_weights`` the file that
this writes). And back: with ``--stage-two-of``, stage two without its guide as a light network.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from dmd3c_ros.core import networks
from dmd3c_ros.core.weights.checkpoint import load_weights, read_state
from dmd3c_ros.core.weights.mono import load_state
from training.command_line import short_errors
from training.engine.checkpoints import save, weights_content


def assemble(student: str | Path, out: str | Path, completion: str | Path | None = None) -> None:
    """Write the weights of a ``two_stage`` network.

    student: file of its monocular network. completion: file of a light network; None for one that
    begins at its prior. Raises FileNotFoundError or CheckpointError for files that are
    missing or do not fit.
    """
    torch.manual_seed(0)
    network = networks.build('two_stage')
    load_state(network.mono, read_state(student), student)
    if completion is not None:
        light = networks.build('light')
        load_weights(light, completion)
        # Only what reads the guide is its own: it begins without effect.
        network.completion.load_state_dict(light.state_dict(), strict=False)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    save(weights_content(network, 'two_stage'), out)


def stage_two(two_stage: str | Path, out: str | Path) -> None:
    """Write stage two of a ``two_stage`` network, less what reads the guide, as a light network.

    Raises FileNotFoundError or CheckpointError for a file that is missing or does not fit.
    """
    network, light = networks.build('two_stage'), networks.build('light')
    load_weights(network, two_stage)
    state = network.completion.state_dict()
    light.load_state_dict({name: state[name] for name in light.state_dict()})
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    save(weights_content(light, 'light'), out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m training.mono.assemble', description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--student', help='weights.pth of training.mono')
    source.add_argument('--stage-two-of', help='weights of two stages')
    parser.add_argument('--completion', help='weights of a light network')
    parser.add_argument('--out', required=True, help='file to write')
    args = parser.parse_args(arguments)
    with short_errors('mono.assemble'):
        if args.stage_two_of:
            stage_two(args.stage_two_of, args.out)
        else:
            assemble(args.student, args.out, args.completion)


if __name__ == '__main__':
    main()
