"""The model of the node: exchanged while frames go on, cheaper where memory runs out."""

import gc
import threading
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from dmd3c_ros.core.completer import DepthCompleter
from dmd3c_ros.core.config import CompleterConfig
from dmd3c_ros.core.memory import is_out_of_memory
from dmd3c_ros.core.networks.base import CompletionNetwork, NetworkOutput
from dmd3c_ros.node.model import LOAD_ERRORS, Model

K = np.array([[90.0, 0, 50], [0, 90.0, 30], [0, 0, 1]])
LIGHT = CompleterConfig(model='light', device='cpu', precision='float32')
NEAREST = CompleterConfig(model='nearest')
TOO_MUCH = 1 << 50
SIZE = (96, 320)


def frame(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sparse = np.zeros((height, width), np.float32)
    sparse[::4, ::4] = 7.0
    return np.zeros((height, width, 3), np.uint8), sparse, K


class Hungry(CompletionNetwork):
    """Asks for more memory than any machine has, for images above a number of pixels."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, image, sparse, K):
        if image[0, 0].numel() > self.pixels:
            torch.empty(TOO_MUCH)
        return NetworkOutput(torch.full_like(sparse, 7.0) * self.weight)


class Kitchen:
    """Makes completers with hungry networks, and remembers what was asked for."""

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self.asked: list[CompleterConfig] = []
        self.told: list[str] = []

    def make(self, config: CompleterConfig) -> DepthCompleter:
        self.asked.append(config)
        return DepthCompleter(config, network=Hungry(self.pixels))

    def model(self, config: CompleterConfig = LIGHT) -> Model:
        return Model(config, SIZE, self.told.append, self.make)


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize(
    'allocate', [lambda: torch.empty(TOO_MUCH), lambda: np.empty(TOO_MUCH)], ids=['torch', 'numpy']
)
def test_a_real_allocation_that_fails_is_told_from_other_errors(allocate):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate()
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ('error', 'expected'),
    [
        (torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB'), True),
        (RuntimeError('cuDNN error: CUDNN_STATUS_ALLOC_FAILED'), True),
        (RuntimeError('ONNX Runtime: Failed to allocate memory for requested buffer'), True),
        (RuntimeError('mat1 and mat2 shapes cannot be multiplied'), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_out_of_memory_is_known_by_type_and_by_what_libraries_say(error, expected):
    assert is_out_of_memory(error) is expected


def test_a_frame_that_needs_too_much_memory_is_completed_at_a_smaller_scale_from_then_on():
    kitchen = Kitchen(pixels=200 * 400)
    model = kitchen.model()
    small, large = frame(128, 256), frame(256, 512)
    assert model.complete(*small).depth.shape == (128, 256)
    assert not kitchen.told
    for _ in range(3):
        depth = model.complete(*large).depth
        assert depth.shape == (256, 512)
        np.testing.assert_allclose(depth, 7.0)
    assert kitchen.asked == [LIGHT, replace(LIGHT, inference_scale=0.5)]
    (text,) = kitchen.told
    assert 'inference_scale 0.5' in text
    assert "can't allocate memory" in text
    model.close()


def test_where_nothing_smaller_is_left_the_frame_fails_and_the_next_one_does_not():
    kitchen = Kitchen(pixels=96 * 320)
    model = kitchen.model()
    for _ in range(2):
        with pytest.raises(MemoryError, match='out of memory'):
            model.complete(*frame(512, 1024))
    assert model.complete(*frame(64, 128)).depth.shape == (64, 128)
    assert len(kitchen.told) == 1
    model.close()


def test_a_model_that_does_not_fit_at_the_start_is_loaded_in_a_cheaper_way():
    kitchen = Kitchen(pixels=96 * 320 // 2)
    model = kitchen.model()
    assert model.completer.config.inference_scale == 0.5
    assert len(kitchen.told) == 1
    model.close()
    with pytest.raises(MemoryError, match='out of memory'):
        Kitchen(pixels=1).model()


@pytest.mark.parametrize(
    'error', [torch.OutOfMemoryError('CUDA out of memory'), FileNotFoundError('weights: no file')]
)
def test_a_smaller_model_that_does_not_load_fails_frames_until_another_one_is_asked_for(error):
    kitchen = Kitchen(pixels=96 * 320)

    def make(config):
        if config.inference_scale < 1:
            raise error
        return kitchen.make(config)

    model = Model(LIGHT, SIZE, kitchen.told.append, make)
    with pytest.raises(MemoryError, match='out of memory'):
        model.complete(*frame(512, 1024))
    # The first model had to go, so that a frame of any size fails, and says why.
    for size in ((512, 1024), (64, 128)):
        with pytest.raises(MemoryError, match='out of memory'):
            model.complete(*frame(*size))
    model.exchange(NEAREST)
    assert (model.complete(*frame(64, 128)).depth == 7.0).all()
    model.close()


# ---------------------------------------------------------------- exchange


def test_frames_go_on_while_another_model_loads_and_then_come_from_it():
    loading, go_on = threading.Event(), threading.Event()

    def make(config):
        if config == NEAREST:
            loading.set()
            assert go_on.wait(30)
        return DepthCompleter(config, None if config == NEAREST else Hungry(TOO_MUCH))

    model = Model(LIGHT, SIZE, pytest.fail, make)
    exchange = threading.Thread(target=model.exchange, args=(NEAREST,))
    exchange.start()
    assert loading.wait(30)
    for _ in range(3):
        model.complete(*frame(64, 96))
        assert model.completer.name == 'light'
    go_on.set()
    exchange.join(30)
    assert model.completer.name == 'nearest'
    assert (model.complete(*frame(64, 96)).depth == 7.0).all()
    model.close()


def test_the_running_frame_ends_with_the_model_that_began_it():
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Hungry):
        def forward(self, image, sparse, K):
            if image.shape[-1] == 32:
                begun.set()
                assert go_on.wait(30)
            return super().forward(image, sparse, K)

    def make(config):
        return DepthCompleter(config, None if config == NEAREST else Slow(TOO_MUCH))

    model, depths = Model(LIGHT, SIZE, pytest.fail, make), []
    running = threading.Thread(target=lambda: depths.append(model.complete(*frame(32, 32)).depth))
    running.start()
    assert begun.wait(30)
    exchange = threading.Thread(target=model.exchange, args=(NEAREST,))
    exchange.start()
    time.sleep(0.05)
    assert model.completer.name == 'light'
    go_on.set()
    running.join(30)
    exchange.join(30)
    assert (depths[0] == 7.0).all()
    assert model.completer.name == 'nearest'
    model.close()


@pytest.mark.parametrize(
    'config',
    [
        replace(LIGHT, weights='no/such/file.pth'),
        replace(LIGHT, device='cuda:97'),
        CompleterConfig(model='bpnet', device='cpu'),
        replace(LIGHT, backend='onnx', precision='bfloat16'),
    ],
    ids=['weights', 'device', 'no weights come with it', 'precision'],
)
def test_what_cannot_be_loaded_leaves_the_model_as_it_was(config):
    model = Model(NEAREST, SIZE, pytest.fail)
    before = model.completer
    with pytest.raises(LOAD_ERRORS):
        model.exchange(config)
    assert model.completer is before
    assert (model.complete(*frame(64, 96)).depth == 7.0).all()
    model.close()


def test_memory_that_runs_out_while_another_model_loads_leaves_this_one():
    kitchen = Kitchen(pixels=128 * 256)
    model = kitchen.model()
    model.complete(*frame(128, 256))
    kitchen.pixels = 10
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        model.exchange(replace(LIGHT, max_depth=50.0))
    assert model.complete(*frame(128, 256)).depth.shape == (128, 256)
    assert not kitchen.told
    model.close()


@pytest.mark.parametrize('end', ['close', 'exchange', 'fall back', 'refused'])
def test_nothing_refers_to_a_network_that_was_given_up(end):
    networks = []

    def make(config):
        if config == NEAREST:
            return DepthCompleter(config)
        network = Hungry(96 * 320 if config.inference_scale == 1 else TOO_MUCH)
        networks.append(weakref.ref(network))
        return DepthCompleter(config, network)

    model = Model(LIGHT, SIZE, lambda text: None, make)
    if end == 'close':
        model.close()
    elif end == 'exchange':
        model.exchange(NEAREST)
    elif end == 'fall back':
        model.complete(*frame(256, 512))
    else:
        model.exchange(NEAREST)
        model.complete(*frame(256, 512))
        with pytest.raises(RuntimeError):
            model.exchange(LIGHT)
    gc.collect()
    alive = [network() is not None for network in networks]
    assert alive == ([False, True] if end == 'fall back' else [False] * len(networks))
    model.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_closed_model_holds_no_memory_of_the_gpu():
    before = torch.cuda.memory_allocated()
    model = Model(CompleterConfig(model='light', device='cuda'), SIZE, pytest.fail)
    model.complete(*frame(352, 1216))
    model.exchange(CompleterConfig(model='light', device='cuda', precision='float16'))
    assert torch.cuda.memory_allocated() > before
    model.close()
    gc.collect()
    assert torch.cuda.memory_allocated() == before


def test_a_model_that_was_prepared_and_not_wanted_any_more_is_released():
    networks = []

    def make(config):
        if config == NEAREST:
            return DepthCompleter(config)
        network = Hungry(TOO_MUCH)
        networks.append(weakref.ref(network))
        return DepthCompleter(config, network)

    model = Model(NEAREST, SIZE, pytest.fail, make)
    model.prepare(LIGHT)
    model.prepare(replace(LIGHT, max_depth=50.0))
    gc.collect()
    assert [network() is None for network in networks] == [True, False]
    model.close()
    gc.collect()
    assert [network() is None for network in networks] == [True, True]
