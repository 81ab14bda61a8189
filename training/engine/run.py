"""The training engine of both stages: one run of a network on numbered samples, with Lightning.

A run is a pure function of its configuration: step k sees the samples k * batch ... (k + 1) *
batch, wherever it runs, and random numbers are drawn from the seed, the step and the process. So
an interrupted run continues from its last checkpoint as if nothing had happened, and more
processes see the same batches in smaller parts.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from lightning.pytorch.loggers import TensorBoardLogger

from dmd3c_ros.io.atomic import write_bytes
from training.engine.checkpoints import AtomicIO, Checkpoints
from training.engine.module import Training
from training.engine.settings import TrainConfig


def train(
    config: TrainConfig,
    callbacks: tuple[pl.Callback, ...] = (),
    kind: type[Training] = Training,
) -> Path:
    """Train to the end, resuming from ``out/last.ckpt`` if it exists.

    kind: of the task; depth completion by default.
    Under torchrun each process calls this. Returns the file of the averaged weights. Raises
    FileNotFoundError for missing data, ValueError for a folder of another run.
    """
    out = Path(config.out)
    last = out / 'last.ckpt'
    checkpoints = Checkpoints(out, config.checkpoint_every)
    task = kind(config)
    trainer = pl.Trainer(
        accelerator=config.accelerator,
        **_processes(config),
        precision=config.precision,
        max_steps=config.stop_at or config.iterations,
        max_epochs=1,
        gradient_clip_val=config.clip_norm,
        accumulate_grad_batches=config.accumulate,
        # Lightning counts the parts of a batch here.
        val_check_interval=config.accumulate
        * min(config.validate_every, config.stop_at or config.iterations),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=config.log_every,
        logger=TensorBoardLogger(out, name='', version='tensorboard'),
        callbacks=[checkpoints, *callbacks],
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        sync_batchnorm=config.sync_norm and torch.cuda.is_available(),
        plugins=[AtomicIO()],
    )
    if trainer.is_global_zero:
        _note(config, out)
        # Of a run that was killed while it saved: for BP-Net more than a gigabyte each.
        for half_written in out.glob('.*.tmp'):
            half_written.unlink(missing_ok=True)
    trainer.fit(task, ckpt_path=last if last.is_file() else None)
    return out / 'weights.pth'


def _note(config: TrainConfig, out: Path) -> None:
    """Save the settings and the command with the results."""
    content = yaml.safe_dump(json.loads(json.dumps(asdict(config))), sort_keys=False)
    command = shlex.join(getattr(sys, 'orig_argv', sys.argv))
    write_bytes(out / 'settings.yaml', f'# {command}\n{content}'.encode())


def _processes(config: TrainConfig) -> dict[str, Any]:
    """The trainer's arguments about processes; those of torchrun override the settings."""
    here = int(os.environ.get('LOCAL_WORLD_SIZE', '0'))
    if here:
        devices, nodes = here, int(os.environ['WORLD_SIZE']) // here
    else:
        gpus = 0 if config.accelerator == 'cpu' else torch.cuda.device_count()
        devices, nodes = config.devices or max(gpus, 1), config.nodes
    several = devices * nodes > 1
    return {
        'devices': devices,
        'num_nodes': nodes,
        # Stochastic depth leaves blocks of LRRU without a gradient in some iterations.
        'strategy': 'ddp_find_unused_parameters_true' if several else 'auto',
    }
