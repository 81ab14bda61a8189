"""Back ends give the same depth, and ONNX files are checked before they take their name."""

import functools
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from light_weights import save_light
from typer.testing import CliRunner

from dmd3c_ros.cli.app import app
from dmd3c_ros.core import networks, openvino_runner, runners
from dmd3c_ros.core.cache import cache_folder
from dmd3c_ros.core.completer import DepthCompleter
from dmd3c_ros.core.config import CompleterConfig
from dmd3c_ros.core.networks.lrru import LRRU
from dmd3c_ros.core.ops.ip_basic import ip_basic
from dmd3c_ros.core.weights.checkpoint import CheckpointError, read_state

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxscript')
pytest.importorskip('onnxruntime')

# Exporting and tracing take a quarter of a minute of one core, minutes on a busy machine.
pytestmark = pytest.mark.timeout(900)

K = np.array([[90.0, 0, 50], [0, 90.0, 30], [0, 0, 1]])


@pytest.fixture(autouse=True)
def cache(cache_home: Path, wide_terminal: None) -> Path:
    return cache_home / 'dmd3c_ros' / 'onnx'


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('weights') / 'light.pth'
    return save_light(path, 5, convention={'size_multiple': 32})


@pytest.fixture(scope='module')
def exported(weights: Path) -> Path:
    """The same network as an ONNX file; written once, for it takes a while."""
    path = weights.with_name('light.onnx')
    result = CliRunner().invoke(app, ['export', 'onnx', str(path), '--weights', str(weights)])
    assert result.exit_code == 0, result.output
    assert 'of the depth from PyTorch' in result.output
    assert sorted(p.name for p in path.parent.iterdir()) == ['light.onnx', 'light.pth']
    return path


def scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(height)
    rgb = rng.integers(0, 255, (height, width, 3), np.uint8)
    sparse = np.where(rng.random((height, width)) < 0.05, rng.uniform(3, 70, (height, width)), 0)
    return rgb, sparse.astype(np.float32)


def eager(weights: Path) -> DepthCompleter:
    return DepthCompleter(CompleterConfig(weights=str(weights), device='cpu', precision='float32'))


@pytest.mark.parametrize('size', [(61, 103), (96, 128), (130, 41), (64, 64)])
def test_an_exported_file_takes_any_size_and_agrees(
    exported: Path, weights: Path, size: tuple[int, int]
) -> None:
    completer = DepthCompleter(CompleterConfig(weights=str(exported)))
    found = completer.complete(*scene(*size), K)
    expected = eager(weights).complete(*scene(*size), K)
    np.testing.assert_allclose(found.depth, expected.depth, rtol=2e-4)
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-4)
    # The rays through the pixels reach the network too.
    other = completer.complete(*scene(*size), K * [[2, 1, 3], [1, 2, 3], [1, 1, 1]])
    assert np.abs(other.depth - found.depth).max() > 1e-3


def test_an_exported_file_says_which_network_it_is(exported: Path, tmp_path: Path) -> None:
    completer = DepthCompleter(CompleterConfig(weights=str(exported)))
    assert str(Path(__file__).parents[1]).encode() not in exported.read_bytes()
    assert (completer.name, completer.backend) == ('light', 'onnx')
    assert (completer.device, completer.precision) == ('cpu', 'float32')
    with pytest.raises(CheckpointError, match='expected the network bpnet, got light'):
        DepthCompleter(CompleterConfig(model='bpnet', weights=str(exported)))
    with pytest.raises(ValueError, match='precision: expected float32'):
        DepthCompleter(CompleterConfig(weights=str(exported), precision='float16'))
    with pytest.raises(FileNotFoundError, match='no file'):
        DepthCompleter(CompleterConfig(weights=str(tmp_path / 'none.onnx')))


def test_files_that_are_no_export_are_named(exported: Path, tmp_path: Path) -> None:
    foreign = onnx.load(exported)
    foreign.metadata_props.clear()
    onnx.save(foreign, tmp_path / 'foreign.onnx')
    (tmp_path / 'cut.onnx').write_bytes(exported.read_bytes()[:9999])
    for name, message in (
        ('foreign', 'expected a file written by `dmd3c export onnx`'),
        ('cut', 'not a readable ONNX file'),
    ):
        with pytest.raises(ValueError, match=rf'{name}\.onnx: {message}'):
            DepthCompleter(CompleterConfig(weights=str(tmp_path / f'{name}.onnx')))


def test_the_onnx_back_end_exports_each_network_once(
    exported: Path, weights: Path, cache: Path, tmp_path: Path, monkeypatch
) -> None:
    written = []

    def export(network, name: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(exported, path)
        written.append(path)

    monkeypatch.setattr(runners, 'export_onnx', export)
    for _ in range(2):
        completer = DepthCompleter(CompleterConfig(weights=str(weights), backend='onnx'))
    assert completer.backend == 'onnx'
    assert [path.parent for path in written] == [cache]
    found, expected = (c.complete(*scene(48, 64), K) for c in (completer, eager(weights)))
    np.testing.assert_allclose(found.depth, expected.depth, rtol=2e-4)
    changed = torch.load(weights, weights_only=True)
    changed['net']['fine_head.bias'] += 1e-3
    torch.save(changed, tmp_path / 'changed.pth')
    DepthCompleter(CompleterConfig(weights=str(tmp_path / 'changed.pth'), backend='onnx'))
    assert len(set(written)) == 2


@pytest.fixture(scope='module')
def converted(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """A cache with the network as OpenVINO takes it; converted once, for it takes a while."""
    pytest.importorskip('openvino')
    folder = tmp_path_factory.mktemp('converted')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(folder))
        DepthCompleter(CompleterConfig(weights=str(weights), backend='openvino'))
    return folder


@pytest.fixture
def openvino(converted: Path, monkeypatch) -> Path:
    """Folder of the converted network, in a cache that the test may write to."""
    kept = cache_folder() / 'openvino'
    shutil.copytree(converted / 'dmd3c_ros' / 'openvino', kept)
    monkeypatch.setattr(openvino_runner, 'is_installed', lambda: True)
    return kept


@pytest.fixture
def converted_before(converted: Path, monkeypatch) -> None:
    """A conversion gives at once what `converted` took its time for."""
    (path,) = (converted / 'dmd3c_ros' / 'openvino').glob('*.xml')
    monkeypatch.setattr(
        openvino_runner, '_converted', lambda package, *_: package.Core().read_model(path)
    )


def test_openvino_takes_any_size_and_agrees(openvino: Path, weights: Path, monkeypatch) -> None:
    monkeypatch.setattr(openvino_runner, 'computes_bfloat16', lambda: False)
    config = CompleterConfig(weights=str(weights), backend='openvino')
    completer = DepthCompleter(config)
    assert (completer.backend, completer.device, completer.precision) == (
        'openvino', 'cpu', 'float32',
    )  # fmt: skip
    found = []
    for size in ((61, 103), (130, 41), (64, 64)):
        found.append(completer.complete(*scene(*size), K))
        expected = eager(weights).complete(*scene(*size), K)
        np.testing.assert_allclose(found[-1].depth, expected.depth, rtol=2e-4)
        np.testing.assert_allclose(found[-1].confidence, expected.confidence, atol=1e-4)
    # What a frame got stays its own when the next one comes.
    kept = found[-1].depth.copy()
    for _ in range(2):
        completer.complete(*scene(64, 64), K)
    # From the second of its size on it runs in what is compiled for that size alone ...
    assert len(completer._runner._of_size) == 1
    # ... and goes on while it is compiled for another one.
    compiled, go_on = completer._runner._compiled, threading.Event()
    monkeypatch.setattr(
        completer._runner, '_compiled', lambda *args, **k: go_on.wait(60) and compiled(*args, **k)
    )
    for _ in range(10):
        other = completer.complete(*scene(61, 103), K)
    assert len(completer._runner._of_size) == 1
    assert not completer.ready(1.0)
    np.testing.assert_allclose(other.depth, found[0].depth, rtol=1e-4)
    go_on.set()
    while not completer.ready(1.0):
        time.sleep(0.01)
    assert len(completer._runner._of_size) == 2
    for size, before in (((61, 103), found[0].depth), ((64, 64), kept)):
        again = completer.complete(*scene(*size), K)
        np.testing.assert_allclose(again.depth, before, rtol=1e-4)
    np.testing.assert_array_equal(found[-1].depth, kept)
    for precision in ('bfloat16', 'float16'):
        with pytest.raises(ValueError, match='precision: expected float32 with openvino on this'):
            DepthCompleter(replace(config, precision=precision))
    with pytest.raises(ValueError, match='device: expected cpu with openvino, got cuda'):
        DepthCompleter(replace(config, device='cuda'))


def test_a_size_that_openvino_cannot_compile_for_runs_all_the_same(
    openvino: Path, weights: Path, monkeypatch, caplog
) -> None:
    completer = DepthCompleter(CompleterConfig(weights=str(weights), backend='openvino'))
    assert completer.ready(0.5)  # No image yet, so there is nothing to wait for.
    for _ in range(2):
        completer.complete(*scene(64, 96), K)

    def fail(size: tuple[int, int], **_):
        raise RuntimeError(f'no memory for {size}')

    monkeypatch.setattr(completer._runner, '_compiled', fail)
    assert completer.ready(1.0)
    assert not completer.ready(0.5)
    while not completer.ready(0.5):
        time.sleep(0.01)
    for _ in range(20):
        found = completer.complete(*scene(64, 96), K, 0.5)
    assert (found.depth > 0).all()
    assert caplog.text.count('no memory for (32, 64)') == 1


def test_no_runtime_reports_its_use_to_anybody(
    exported: Path, weights: Path, tmp_path: Path
) -> None:
    script = (
        'from dmd3c_ros import CompleterConfig, DepthCompleter\n'
        f'DepthCompleter(CompleterConfig(weights={str(exported)!r}))\n'
        f'DepthCompleter(CompleterConfig(weights={str(weights)!r}, backend="openvino"))\n'
    )
    known = ('CI', 'ORT_DISABLE_TELEMETRY', 'XDG_CACHE_HOME')
    environment = {k: v for k, v in os.environ.items() if k not in known}
    environment |= {'HOME': str(tmp_path), 'PYTHONPATH': str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, '-c', script], env=environment, check=True, cwd=tmp_path)
    # Each keeps the number by which it reports, and what it has not sent yet, in files of its own.
    folders = {path.relative_to(tmp_path).parts[:2] for path in tmp_path.rglob('*')}
    assert folders == {('.cache',), ('.cache', 'dmd3c_ros')}


def test_signals_are_handled_after_networks_were_exchanged(openvino: Path, weights: Path) -> None:
    # In a process of its own, which a signal may end.
    script = (
        'import os, signal\n'
        'from dmd3c_ros import CompleterConfig, DepthCompleter\n'
        f'config = CompleterConfig(weights={str(weights)!r}, backend="openvino")\n'
        'for _ in range(3):\n'
        '    completer = DepthCompleter(config)\n'
        'del completer\n'
        'handled = []\n'
        'signal.signal(signal.SIGINT, lambda *_: handled.append(1))\n'
        'os.kill(os.getpid(), signal.SIGINT)\n'
        'assert handled\n'
    )
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, '-c', script], cwd=root).returncode == 0


@pytest.fixture
def two_stages(weights: Path, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = networks.build('two_stage')
    network.completion.load_state_dict(read_state(weights), strict=False)
    for head in (network.completion.coarse_guide_head, network.completion.fine_guide_head):
        torch.nn.init.normal_(head.weight, std=0.05)
    path = tmp_path / 'two_stage.pth'
    torch.save({'net': network.state_dict()}, path)
    return path


def test_both_of_two_stages_run_in_openvino(
    openvino: Path, two_stages: Path, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(openvino_runner, 'computes_bfloat16', lambda: False)
    intrinsics = np.array([[90.0, 0, 48], [0, 90.0, 32], [0, 0, 1]])
    # The student is converted for a size that comes again.
    scenes = [scene(*size) for size in ((64, 96), (64, 200), (64, 96), (64, 96), (64, 96))]
    config = CompleterConfig(weights=str(two_stages), device='cpu')
    DepthCompleter(config)
    monkeypatch.setattr(openvino_runner, '_converted', lambda *_: pytest.fail('converted again'))
    completers = [DepthCompleter(replace(config, backend=name)) for name in ('auto', 'eager')]
    assert [completer.backend for completer in completers] == ['openvino', 'eager']
    for index, (rgb, sparse) in enumerate(scenes):
        ours, theirs = (each.complete(rgb, sparse, intrinsics) for each in completers)
        np.testing.assert_allclose(ours.depth, theirs.depth, rtol=2e-3)
        np.testing.assert_allclose(ours.confidence, theirs.confidence, atol=2e-3)
        assert len(list(openvino.glob('student-192x288-*.xml'))) == (index >= 3)
    monkeypatch.setattr(openvino_runner, '_traced', lambda *_: pytest.fail('converted again'))
    again = DepthCompleter(config)
    found = [again.complete(rgb, sparse, intrinsics).depth for rgb, sparse in scenes[2:]]
    np.testing.assert_array_equal(found[-1], ours.depth)
    np.testing.assert_allclose(found[0], ours.depth, rtol=1e-4)
    monkeypatch.setattr(openvino_runner, 'EXPORT_TOLERANCE', 0.0)
    doubted = DepthCompleter(config)
    for rgb, sparse in scenes[2:]:
        np.testing.assert_allclose(
            doubted.complete(rgb, sparse, intrinsics).depth, theirs.depth, rtol=2e-3
        )
    assert caplog.text.count('running student-192x288 in PyTorch: OpenVINO changes its') == 1


def test_openvino_is_the_default_on_a_cpu_and_converts_once(
    openvino: Path, weights: Path, monkeypatch
) -> None:
    monkeypatch.setattr(openvino_runner, '_converted', lambda *_: pytest.fail('converted again'))
    config = CompleterConfig(weights=str(weights), device='cpu', threads=1)
    completer = DepthCompleter(config)
    assert completer.backend == 'openvino'
    compiled = completer._runner._any_size.get_compiled_model()
    assert compiled.get_property('INFERENCE_NUM_THREADS') == 1
    assert not compiled.get_property('ENABLE_CPU_PINNING')
    # One of many that somebody trains: the cache would fill with them.
    network = networks.build('light')
    made = DepthCompleter(CompleterConfig(model='light', device='cpu'), network)
    assert made.backend == 'eager'


def test_a_converted_network_that_does_not_load_is_made_anew(
    openvino: Path, weights: Path, converted_before: None, caplog
) -> None:
    (path,) = openvino.glob('*.xml')
    path.write_text('<net')
    completer = DepthCompleter(CompleterConfig(weights=str(weights), device='cpu'))
    assert completer.backend == 'openvino'
    assert 'cannot be loaded and will be converted again' in caplog.text
    assert path.stat().st_size > 1000
    assert sorted(p.suffix for p in openvino.iterdir()) == ['.bin', '.xml']


@pytest.mark.parametrize(
    ('difference', 'precision'), [(0.01, 'bfloat16'), (0.5, 'float32')], ids=['near', 'far off']
)
def test_bfloat16_is_taken_where_the_processor_has_it_and_results_stay_near(
    openvino: Path, weights: Path, difference: float, precision: str, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(openvino_runner, 'computes_bfloat16', lambda: True)
    monkeypatch.setattr(openvino_runner, 'export_difference', lambda *_: difference)
    config = CompleterConfig(weights=str(weights), device='cpu')
    completer = DepthCompleter(config)
    assert (completer.backend, completer.precision) == ('openvino', precision)
    assert ('in float32: bfloat16' in caplog.text) is (precision == 'float32')
    assert np.isfinite(completer.complete(*scene(64, 64), K).depth).all()
    assert DepthCompleter(replace(config, precision='float32')).precision == 'float32'


# Convolutions with kernels that were not learned: of the planes.
FIXED = 'network.network/aten::_convolution'


def test_a_converted_network_says_what_stays_in_float32(openvino: Path) -> None:
    (path,) = openvino.glob('*.xml')
    kept = {
        layer.get('name'): layer.find('rt_info/attribute[@name="DisablePrecisionConversion"]')
        is not None
        for layer in ElementTree.parse(path).iter('layer')
        if layer.get('type') in ('Convolution', 'MatMul')
    }
    fixed = {name for name in kept if FIXED in name}
    assert len(fixed) == 12
    assert {name for name, is_kept in kept.items() if is_kept} == fixed
    assert any('.decoder.' in name for name in kept)


def test_what_comes_before_the_learned_layers_stays_in_float32(openvino: Path) -> None:
    if not openvino_runner.computes_bfloat16():
        pytest.skip('this processor has no bfloat16')
    (path,) = openvino.glob('*.xml')
    hints = openvino_runner._hints(torch.bfloat16, 1)
    ran = openvino_runner._core().compile_model(path, 'CPU', hints).get_runtime_model()
    precisions = {}
    for operation in ran.get_ops():
        about = operation.get_rt_info()
        for name in about['originalLayersNames'].astype(str).split(','):
            precisions[name] = about['runtimePrecision'].astype(str)
    fixed = {precision for name, precision in precisions.items() if FIXED in name}
    learned = precisions['__module.network.network.decoder.0.0/aten::_convolution/Convolution']
    assert (fixed, learned) == ({'f32'}, 'bf16')


@pytest.mark.parametrize(
    ('fault', 'line'),
    [
        ({'is_installed': lambda: False}, 'which is faster on a CPU, is not installed'),
        ({'CONVERTIBLE': ()}, 'openvino: expected one of'),
        ({'export_difference': lambda *_: 0.1}, r'differs from PyTorch by 0.1 of the depth'),
    ],
    ids=['not installed', 'of no such network', 'wrong'],
)
def test_pytorch_runs_what_openvino_cannot_and_the_log_says_why(
    openvino: Path,
    weights: Path,
    converted_before: None,
    fault: dict,
    line: str,
    monkeypatch,
    caplog,
) -> None:
    shutil.rmtree(openvino)
    for name, value in fault.items():
        monkeypatch.setattr(openvino_runner, name, value)
    with caplog.at_level('INFO'):
        completer = DepthCompleter(CompleterConfig(weights=str(weights), device='cpu'))
    assert completer.backend == 'eager'
    assert [r.getMessage() for r in caplog.records if line in r.getMessage()]
    assert not list(openvino.glob('*.xml'))


def test_a_full_disk_leaves_a_network_to_pytorch(monkeypatch) -> None:
    pytest.importorskip('openvino')

    def full(*_) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(openvino_runner, '_traced', lambda *_: None)
    monkeypatch.setattr(openvino_runner, 'keep_prior', full)
    with pytest.raises(ValueError, match=r'light cannot be converted .*No space left'):
        openvino_runner._converted(None, networks.build('light'), 'light')


def test_what_is_kept_goes_with_the_code_of_the_networks(tmp_path: Path, monkeypatch) -> None:
    network = networks.build('light').eval()
    shutil.copytree(runners._HERE, tmp_path / 'core')
    found = [runners.fingerprint(network)]
    monkeypatch.setattr(runners, '_HERE', tmp_path / 'core')
    assert runners.fingerprint(network) == found[0]
    for name in ('ops/__init__.py', 'networks/light.py', 'runners.py', 'openvino_precision.py'):
        with (tmp_path / 'core' / name).open('a') as shared:
            shared.write('# changed')
        found.append(runners.fingerprint(network))
    assert len(set(found)) == len(found)


def test_threads_of_pytorch_are_as_before_after_a_frame(weights: Path) -> None:
    before = torch.get_num_threads()
    seen = []
    completer = DepthCompleter(
        CompleterConfig(weights=str(weights), device='cpu', backend='eager', threads=before + 1)
    )
    run = completer._runner._forward
    completer._runner._forward = lambda *x: (seen.append(torch.get_num_threads()), run(*x))[1]
    completer.complete(*scene(64, 64), K)
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_a_missing_openvino_is_named(weights: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'openvino', None)
    with pytest.raises(ImportError, match='needs the package openvino'):
        DepthCompleter(CompleterConfig(weights=str(weights), backend='openvino'))


def test_an_export_that_differs_from_pytorch_leaves_no_file(tmp_path: Path, monkeypatch) -> None:
    program = SimpleNamespace(
        model=SimpleNamespace(metadata_props={}), save=lambda path: Path(path).write_bytes(b'x')
    )
    monkeypatch.setattr(runners, '_exported', lambda network: program)
    monkeypatch.setattr(runners, 'OnnxRunner', lambda path, device: None)
    monkeypatch.setattr(runners, 'export_difference', lambda network, runner: 2e-3)
    (tmp_path / 'a.onnx').write_bytes(b'the one before')
    with pytest.raises(RuntimeError, match=r'differs from PyTorch by 0\.002 of the depth'):
        runners.export_onnx(networks.build('light').eval(), 'light', tmp_path / 'a.onnx')
    assert [path.name for path in tmp_path.iterdir()] == ['a.onnx']
    assert (tmp_path / 'a.onnx').read_bytes() == b'the one before'


class OneUpdate(LRRU):
    """LRRU with one update in place of four and features of two convolutions: all that its export
    depends on, in a tenth of the time."""

    def _contexts(self, image: torch.Tensor, sparse: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.conv_img(image) + self.conv_lidar(sparse),)


def test_an_exported_lrru_is_given_its_first_guess_and_agrees(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = OneUpdate(width=2).eval()
    for layer in (network.weight_offset0.conv_offset, network.weight_offset0.conv_weight):
        # Offsets of some pixels, as of a trained network; those of a random one are of hundreds.
        layer.weight.data /= 20
    assert runners.export_onnx(network, 'lrru_mini', tmp_path / 'a.onnx') < 2e-4
    inputs = [item.name for item in onnx.load(tmp_path / 'a.onnx').graph.input]
    assert {'image', 'sparse', 'trusted', 'filled'} <= set(inputs)
    runner = runners.OnnxRunner(tmp_path / 'a.onnx', torch.device('cpu'))
    rgb, sparse = scene(80, 144)
    found = runner(rgb, sparse, K.astype(np.float32)).depth
    eager = runners.TorchRunner(network, torch.device('cpu'))
    expected = eager(rgb, sparse, K.astype(np.float32)).depth
    assert np.abs(expected - ip_basic(torch.from_numpy(sparse)[None, None]).numpy()).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_networks_that_cannot_be_exported_say_so(tmp_path: Path) -> None:
    state = {'net': networks.build('two_stage').state_dict()}
    torch.save(state, tmp_path / 'a.pth')
    command = ['export', 'onnx', str(tmp_path / 'a.onnx'), '--weights', str(tmp_path / 'a.pth')]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert 'expected one of light, lrru_mini' in result.output
    assert "got 'two_stage'" in result.output
    assert not (tmp_path / 'a.onnx').exists()


def test_without_onnx_runtime_the_error_names_it(exported: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(ImportError, match='needs the package onnxruntime'):
        DepthCompleter(CompleterConfig(weights=str(exported)))


def test_a_compiled_network_is_one_graph_and_agrees(weights: Path, monkeypatch) -> None:
    # Without code generation, which takes minutes: that the network can be traced as a whole.
    traced = functools.partial(torch.compile, backend='eager', fullgraph=True)
    monkeypatch.setattr(torch, 'compile', traced)
    config = CompleterConfig(weights=str(weights), device='cpu', backend='compile')
    completer = DepthCompleter(config)
    assert completer.backend == 'compile'
    expected = DepthCompleter(CompleterConfig(weights=str(weights), device='cpu'))
    for _ in range(2):
        np.testing.assert_allclose(
            completer.complete(*scene(64, 96), K).depth,
            expected.complete(*scene(64, 96), K).depth,
            atol=1e-3,
        )
