"""Stage 2 when files or the disk fail: what failed is named, nothing is lost, the run goes on."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('lightning', reason='training needs lightning (training/requirements.txt)')

import torch
import yaml
from training_data import ON_CPU

from dmd3c_ros.datasets.miniature import DATE, DRIVE, write_miniature
from training import stage2
from training.engine import module as engine
from training.engine.checkpoints import AtomicIO, Checkpoints

# On a busy machine it starves.
pytestmark = pytest.mark.timeout(900)

FRAME = Path('raw') / DATE / DRIVE / 'image_02/data/0000000001.png'
TRUTH = Path('data_depth_annotated/train') / DRIVE / 'proj_depth/groundtruth/image_02'
CALIBRATION = Path('raw') / DATE / 'calib_cam_to_cam.txt'


@pytest.fixture(scope='module')
def miniature(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('kitti')
    write_miniature('kitti', folder, frames=4)
    return folder


@pytest.fixture
def kitti(miniature, tmp_path) -> Path:
    return Path(shutil.copytree(miniature, tmp_path / 'kitti'))


def configuration(kitti: Path, out: Path, **changes: object) -> str:
    """File of a short run that saves after every iteration."""
    data = {
        'name': 'kitti-train',
        'root': str(kitti),
        'disparity': True,
        'augment': {'crop_height': 32, 'crop_width': 64},
        'validation_limit': 1,
    }
    settings = {
        'out': str(out),
        'network': 'light',
        'data': {'dataset': data},
        'loss': {'recipe': 'ssi'},
        'iterations': 4,
        'batch': 1,
        **ON_CPU,
        'validate_every': 4,
        'checkpoint_every': 1,
    }
    file = out.with_suffix('.yaml')
    file.write_text(yaml.safe_dump(settings | changes))
    return str(file)


def train(*arguments: str) -> str:
    """Run the command; what it said at a bad end, empty where it ended well."""
    try:
        stage2.main(['--config', *arguments])
    except SystemExit as end:
        return str(end)
    return ''


def state(out: Path) -> dict:
    return torch.load(out / 'last.ckpt', weights_only=True)


def test_a_corrupt_image_is_named_and_the_repaired_run_ends_as_if_nothing_had_been(
    kitti, tmp_path
):
    good, bad = tmp_path / 'good', tmp_path / 'bad'
    assert train(configuration(kitti, good)) == ''
    content = (kitti / FRAME).read_bytes()
    (kitti / FRAME).write_bytes(content[: len(content) // 3])
    # From a process of its own the loader must tell the name too, without its traceback.
    # As users run it: a loader's process is forked from one that does nothing else.
    command = (sys.executable, '-m', 'training.stage2', '--config')
    ended = subprocess.run(
        [*command, configuration(kitti, bad, workers=1)],
        cwd=Path(stage2.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1 and 'Traceback' not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith(f'stage2: {kitti / FRAME}: ')
    assert not (bad / 'last.ckpt').exists() or state(bad)['global_step'] < 4
    (kitti / FRAME).write_bytes(content)
    assert train(configuration(kitti, bad)) == ''
    expected, got = state(good), state(bad)
    assert got['global_step'] == expected['global_step'] == 4
    for name, tensor in expected['state_dict'].items():
        torch.testing.assert_close(got['state_dict'][name], tensor, rtol=1e-4, atol=1e-6)


def test_samples_that_do_not_read_are_left_out_on_request(kitti, tmp_path, caplog):
    (kitti / FRAME).write_bytes(b'')
    out = tmp_path / 'run'
    assert train(configuration(kitti, out, skip_unreadable=True, iterations=5)) == ''
    assert state(out)['global_step'] == 5
    messages = [r.getMessage() for r in caplog.records if 'skipped' in r.getMessage()]
    assert messages and all(str(kitti / FRAME) in message for message in messages)


def test_where_nothing_reads_a_run_ends_although_it_may_leave_samples_out(kitti, tmp_path):
    for file in (kitti / FRAME).parent.glob('*.png'):
        file.write_bytes(b'')
    message = train(configuration(kitti, tmp_path / 'run', skip_unreadable=True))
    assert str((kitti / FRAME).parent) in message and '\n' not in message


def test_a_dry_run_reads_everything_and_estimates(kitti, tmp_path, caplog):
    out = tmp_path / 'run'
    configured = configuration(kitti, out, workers=1, iterations=1000)
    with caplog.at_level('INFO'):
        assert train(configured, '--check') == ''
    assert '8 samples read' in caplog.text and 'days for 1000 iterations' in caplog.text
    assert not out.exists()
    # Of each kind one file is damaged: of the training set, and of the selection.
    [validation] = sorted(kitti.rglob('val_selection_cropped/image/*.png'))[:1]
    for file in (kitti / FRAME, validation):
        file.write_bytes(b'no image')
    message = train(configured, '--check')
    assert message.startswith('stage2: 2 of 8 samples could not be read: ')
    assert str(kitti / FRAME) in message and str(validation) in message


def test_a_missing_calibration_is_named(kitti, tmp_path):
    (kitti / CALIBRATION).unlink()
    message = train(configuration(kitti, tmp_path / 'run'))
    assert f'{kitti / CALIBRATION}: expected the calibration' in message


def test_frames_without_a_sweep_are_counted_and_named_before_the_first_iteration(kitti, tmp_path):
    sweeps = kitti / 'data_depth_velodyne/train'
    for sweep in sorted(sweeps.glob('*/proj_depth/velodyne_raw/image_02/*.png'))[1:3]:
        sweep.unlink()
    message = train(configuration(kitti, tmp_path / 'run'))
    assert f'2 of 4 frames have no file in {sweeps}' in message
    assert '0000000001' in message and '0000000002' in message
    assert not (tmp_path / 'run' / 'last.ckpt').exists()


@pytest.fixture
def disk_full_at_three(monkeypatch):
    """The third checkpoint finds a disk that takes no more.

    A limit on the size of files is to a process what a full disk is: the write itself fails.
    """
    save, limits = AtomicIO.save_checkpoint, resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(self, checkpoint, path, storage_options=None):
        if checkpoint['global_step'] == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, limits[1]))
        try:
            save(self, checkpoint, path, storage_options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(AtomicIO, 'save_checkpoint', limited)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_that_takes_no_more_is_named_and_the_run_goes_on_from_the_checkpoint_before(
    kitti, tmp_path, disk_full_at_three, monkeypatch
):
    out = tmp_path / 'run'
    configured = configuration(kitti, out)
    assert str(out / 'last.ckpt') in train(configured)
    assert state(out)['global_step'] == 2
    assert not list(out.glob('.*tmp'))
    monkeypatch.undo()
    assert train(configured) == ''
    assert state(out)['global_step'] == 4


def test_the_best_weights_are_those_of_the_lowest_error_on_the_selection_set(
    kitti, tmp_path, monkeypatch
):
    """Of four validations the second is the best one, as a run learns at its end."""
    errors, seen = iter([900.0, 300.0, 700.0, 400.0]), []
    monkeypatch.setattr(engine, '_scores', lambda *_: dict.fromkeys(engine.SCORES, next(errors)))
    after = Checkpoints.on_validation_end

    def watched(self, trainer, module):
        seen.append({n: t.clone() for n, t in module.average.module.state_dict().items()})
        after(self, trainer, module)

    monkeypatch.setattr(Checkpoints, 'on_validation_end', watched)
    out = tmp_path / 'run'
    assert train(configuration(kitti, out, validate_every=1, ema_decay=0.5)) == ''
    best, last = (
        torch.load(out / name, weights_only=True)['net'] for name in ('best.pth', 'weights.pth')
    )
    for name, tensor in best.items():
        torch.testing.assert_close(tensor, seen[1][name])
        torch.testing.assert_close(last[name], seen[3][name])
    assert any((best[name] != last[name]).any() for name in best)
