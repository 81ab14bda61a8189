"""Runs of training that are killed and go on: ``python killed_runs.py KITTI SHARDS OUT``.

Everything is imported once, in one thread; each run is then forked from here, in one process or
in two, which costs a tenth of what starting Python anew would. Each run is made thrice: ``whole``,
``killed`` until SIGKILL ends it, and ``killed`` again, from the checkpoint that is there.
"""

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from training_data import ON_CPU

from training.engine.module import Training
from training.engine.run import train
from training.engine.settings import TrainConfig
from training.settings import from_dict

ITERATIONS, EVERY, LAST = 5, 2, 4
"""Of a run; of its checkpoints; the iteration in which it is killed."""


def settings(stage: str, kitti: str, shards: str, out: Path) -> TrainConfig:
    """Stage 1 on shards, or stage 2 on labels with a teacher and random windows."""
    augment = {'crop_height': 32, 'crop_width': 64}
    dataset = {'name': 'kitti-train', 'root': kitti, 'disparity': True, 'validation_limit': 2}
    data, loss = {
        'stage1': ({'shards': {'root': shards, 'held_out': 2, 'augment': augment}}, {'dense': {}}),
        'stage2': ({'dataset': {**dataset, 'augment': augment}}, {'recipe': 'released'}),
    }[stage]
    content = {
        'out': str(out),
        'network': 'light',
        'data': data,
        'loss': loss,
        'iterations': ITERATIONS,
        'batch': 2,
        **ON_CPU,
        'ema_decay': 0.9,
        'validate_every': 3,
        'checkpoint_every': EVERY,
        'log_every': 1,
    }
    return from_dict(TrainConfig, content)


def killed_in_an_iteration() -> None:
    """The last process dies between two checkpoints."""
    before = Training.training_step

    def step(self: Training, *args: object) -> torch.Tensor:
        if self.global_step == LAST and self.global_rank == self.trainer.world_size - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return before(self, *args)

    Training.training_step = step


def killed_while_it_saves() -> None:
    """The process that writes dies with half of the second checkpoint on the disk."""
    before = torch.save

    def save(content: dict, file: object) -> None:
        if content.get('global_step') == LAST:
            file.write(b'half of it')
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        before(content, file)

    torch.save = save


def run(processes: int, body: Callable[[], object]) -> int:
    """Call it in so many forked processes that know of each other; the signal that ended one."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    left = set()
    for rank in range(processes):
        pid = os.fork()
        if not pid:
            _in_child(rank, processes, port, body)
        left.add(pid)
    ended = 0
    while left:
        pid, status = os.waitpid(-1, 0)
        left.discard(pid)
        if status and not ended:
            ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else -1
            # As torchrun does: the others wait for the one that is gone.
            for other in left:
                os.kill(other, signal.SIGKILL)
    return ended


def _in_child(rank: int, processes: int, port: int, body: Callable[[], object]) -> None:
    status = 1
    try:
        if processes > 1:
            place = {'RANK': rank, 'LOCAL_RANK': rank, 'MASTER_PORT': port}
            place |= {'WORLD_SIZE': processes, 'LOCAL_WORLD_SIZE': processes}
            os.environ.update({name: str(value) for name, value in place.items()})
            os.environ['MASTER_ADDR'] = '127.0.0.1'
        body()
        status = 0
    except BaseException as error:
        print(f'process {rank}: {error!r}', file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(status)


def main(kitti: str, shards: str, out: str) -> None:
    """All runs; prints how each one ended."""
    for stage, fatal in (('stage1', killed_in_an_iteration), ('stage2', killed_while_it_saves)):
        for processes in (1, 2):
            whole, killed = (
                settings(stage, kitti, shards, Path(out) / f'{stage}_{processes}_{name}')
                for name in ('whole', 'killed')
            )

            def die(config: TrainConfig = killed, fatal: Callable[[], None] = fatal) -> None:
                fatal()
                train(config)

            ends = [
                run(processes, lambda config=whole: train(config)),
                run(processes, die),
                run(processes, lambda config=killed: train(config)),
            ]
            print(stage, processes, *ends, flush=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
