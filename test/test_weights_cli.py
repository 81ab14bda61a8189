"""Released checkpoints are fetched whole or not at all, and files tell what they hold."""

import hashlib
import http.server
import io
import threading
import zipfile
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from commands import invoke

from dmd3c_ros.core import networks
from dmd3c_ros.core.completer import DepthCompleter
from dmd3c_ros.core.config import CompleterConfig
from dmd3c_ros.core.networks.base import Convention
from dmd3c_ros.core.weights import releases
from dmd3c_ros.core.weights.checkpoint import Checkpoint, CheckpointError, load_weights
from dmd3c_ros.core.weights.conventions import convention_of
from dmd3c_ros.core.weights.download import DownloadError, get

NAME = 'lrru_mini'


@pytest.fixture(autouse=True)
def cache(cache_home: Path, wide_terminal: None) -> Path:
    return cache_home / 'dmd3c_ros' / 'weights'


@pytest.fixture(scope='module')
def checkpoint() -> bytes:
    """The bytes of a checkpoint of the smallest published network."""
    torch.manual_seed(3)
    state = {f'module.{k}': v for k, v in networks.build(NAME).state_dict().items()}
    file = io.BytesIO()
    torch.save({'net': state, 'epoch': 44}, file)
    return file.getvalue()


class Host(http.server.ThreadingHTTPServer):
    """Serves one file on the loopback, in parts when asked to; keeps what was asked for."""

    def __init__(self, body: bytes) -> None:
        super().__init__(('127.0.0.1', 0), _Handler)
        self.body, self.kind = body, 'application/octet-stream'
        self.break_after: int | None = None  # bytes after which the connection ends, once
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.server_port}/file'

    @property
    def item(self) -> releases.Release:
        """The release of the tested network, offered here."""
        return replace(releases.release(NAME), url=self.url)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        host = self.server
        asked, tag = self.headers.get('Range'), f'"{hashlib.md5(host.body).hexdigest()}"'
        host.ranges.append(asked)
        start = 0
        if asked and self.headers.get('If-Range') == tag:
            start = int(asked.removeprefix('bytes=').removesuffix('-'))
        if start and start >= len(host.body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header('Content-Type', host.kind)
        self.send_header('Content-Length', str(len(host.body) - start))
        self.send_header('ETag', tag)
        self.end_headers()
        end, host.break_after = host.break_after, None
        self.wfile.write(host.body[start:end])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def host(checkpoint: bytes) -> Iterator[Host]:
    with Host(checkpoint) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_download_is_checked_recorded_and_used_by_its_name(
    host: Host, checkpoint: bytes, cache: Path, monkeypatch
) -> None:
    monkeypatch.setattr(releases, 'RELEASES', (host.item,))
    printed = invoke('weights', 'get', NAME)
    path = cache / 'LRRU_Mini.pt'
    assert str(path) in printed
    assert path.read_bytes() == checkpoint
    assert sorted(p.name for p in cache.iterdir()) == ['LRRU_Mini.pt', 'LRRU_Mini.pt.sha256']
    assert hashlib.sha256(checkpoint).hexdigest() in (cache / 'LRRU_Mini.pt.sha256').read_text()
    invoke('weights', 'get', NAME)
    assert host.ranges == [None]  # the second time nothing was asked for
    completer = DepthCompleter(CompleterConfig(weights=NAME, device='cpu'))
    assert completer.name == NAME


def test_a_broken_download_goes_on_where_it_ended(host: Host, checkpoint: bytes) -> None:
    host.break_after = 400_000
    with pytest.raises(
        DownloadError, match=f'400000 of {len(checkpoint)} bytes; run the command again'
    ):
        get(host.item)
    seen = []
    path = get(host.item, on_progress=lambda done, total: seen.append((done, total)))
    assert host.ranges == [None, 'bytes=400000-']
    assert path.read_bytes() == checkpoint
    assert seen[0][0] > 400_000
    assert seen[-1] == (len(checkpoint), len(checkpoint))


def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(
    host: Host, checkpoint: bytes
) -> None:
    host.break_after = 400_000
    with pytest.raises(DownloadError):
        get(host.item)
    host.body = _archive({'LRRU/model.pt': checkpoint})
    assert get(host.item).read_bytes() == checkpoint


def test_the_only_checkpoint_of_an_archive_is_taken_out(host: Host, checkpoint: bytes) -> None:
    host.body = _archive({'BP/readme.txt': b'hello', 'BP/result_ema.pth': checkpoint})
    assert get(host.item).read_bytes() == checkpoint
    host.body = _archive({'a.pth': checkpoint, 'b.pth': checkpoint})
    release_file = replace(host.item, file='other.pt')
    with pytest.raises(CheckpointError, match=r'expected one checkpoint, got a\.pth, b\.pth'):
        get(release_file)


@pytest.mark.parametrize('case', ['page', 'other network', 'checksum'])
def test_what_is_not_the_release_gets_no_name(host: Host, cache: Path, case: str) -> None:
    item, error, message = host.item, CheckpointError, 'is not of lrru_tiny'
    if case == 'page':
        host.kind, error, message = 'text/html; charset=utf-8', DownloadError, 'got a web page'
    elif case == 'other network':
        item = replace(item, network='lrru_tiny')
    else:
        item, message = replace(item, sha256='0' * 64), 'expected the checksum 000'
    with pytest.raises(error, match=message):
        get(item)
    assert not (cache / item.file).exists()


def test_offline_says_where_to_put_the_file_and_then_checks_it(
    host: Host, checkpoint: bytes, cache: Path, monkeypatch
) -> None:
    item = host.item
    # Closed while it still serves, it would reset connections instead of refusing them.
    host.shutdown()
    host.server_close()
    monkeypatch.setattr(releases, 'RELEASES', (item,))
    printed = invoke('weights', 'get', NAME, exit_code=1)
    path = cache / 'LRRU_Mini.pt'
    assert 'refused' in printed
    assert f'get it from {item.page} and put it at {path}' in printed
    with pytest.raises(FileNotFoundError, match=f'dmd3c weights get {NAME}'):
        DepthCompleter(CompleterConfig(weights=NAME))
    path.write_bytes(checkpoint[:-1000])
    assert 'LRRU_Mini.pt' in invoke('weights', 'get', NAME, exit_code=1)
    path.write_bytes(checkpoint)
    assert str(path) in invoke('weights', 'get', NAME)


def test_list_names_origin_licence_and_what_is_here(host: Host) -> None:
    get(host.item)
    lines = {
        line.split()[1]: line for line in invoke('weights', 'list').splitlines() if ' ' in line
    }
    for item in releases.RELEASES:
        assert item.page in lines[item.name]
        assert item.licence in lines[item.name]
        assert item.network in networks.names()
    assert ' yes ' in lines['lrru_mini']
    assert ' no ' in lines['lrru_tiny']
    assert 'by hand only' in lines['completionformer_nyu']


@pytest.mark.parametrize('name', ['light', 'two_stage'])
def test_bundled_weights_are_as_large_as_listed(name: str) -> None:
    item = releases.release(name)
    size_mb = releases.weights_path(item).stat().st_size / 1e6
    assert item.size_mb == pytest.approx(size_mb, abs=0.1)


def test_inspect_tells_network_numbers_wrappers_and_conventions(
    tmp_path: Path, checkpoint: bytes
) -> None:
    (tmp_path / 'a.pt').write_bytes(checkpoint)
    printed = invoke('weights', 'inspect', tmp_path / 'a.pt')
    for part in (
        NAME,
        ' tensors, float32, int64',
        'net, module.',
        'epoch',
        ' 44 ',
        '27% of the rows above',
    ):
        assert part in printed
    bundled = invoke('weights', 'inspect', releases.weights_path(releases.release('light')))
    for part in ('local contrast in windows of', 'less than 7 px', 'nearer ones enclose'):
        assert part in bundled
    torch.save({'net': {'head.bias': torch.zeros(3)}}, tmp_path / 'b.pt')
    printed = invoke('weights', 'inspect', tmp_path / 'b.pt')
    assert 'none known' in printed
    assert 'unexpected: head.bias' in printed
    (tmp_path / 'c.pt').write_bytes(checkpoint[:5000])
    assert 'not a readable checkpoint' in invoke(
        'weights', 'inspect', tmp_path / 'c.pt', exit_code=1
    )


@pytest.mark.parametrize('name', networks.names())
def test_every_network_is_told_by_its_parameters(name: str) -> None:
    assert releases.recognize(releases.meta_network(name).state_dict()) == name


@pytest.mark.parametrize(
    ('network', 'facts', 'folder', 'expected'),
    [
        ('bpnet', {'best_metric_ema': 0.694, 'epoch': 28}, 'x', (91 / 255, 1, 0)),
        ('bpnet', {'best_metric_ema': 0.0893, 'epoch': 97}, 'x', (0.485, 10, 0)),
        ('bpnet', {}, 'BP_NYU', (0.485, 10, 0)),
        ('bpnet', {}, 'BP_KITTI', (91 / 255, 1, 0)),
        ('lrru_mini', {}, 'x', (91 / 255, 1, 96 / 352)),
        ('completionformer', {'args': Namespace(data_name='NYU', top_crop=0)}, 'x', (0.485, 1, 0)),
        (
            'completionformer',
            {'args': Namespace(data_name='KITTIDC', top_crop=100)},
            'x',
            (0.485, 1, 100 / 352),
        ),
        # What a file leaves open is the network's own, whatever its folder is called.
        ('bpnet', {'convention': {'depth_scale': 2.0}}, 'BP_NYU', (91 / 255, 2, 0)),
    ],
)
def test_each_release_brings_its_own_conventions(
    network: str, facts: dict, folder: str, expected: tuple, tmp_path: Path
) -> None:
    path = tmp_path / folder / 'result_ema.pth'
    convention = convention_of(releases.meta_network(network), Checkpoint(path, {}, (), facts))
    assert convention.mean[0] == pytest.approx(expected[0], abs=1e-4)
    assert (convention.depth_scale, convention.cut_above) == pytest.approx(expected[1:])


def test_a_stated_convention_is_believed_or_refused(tmp_path: Path) -> None:
    network = networks.build(NAME)
    stated = Convention(
        std=(0.1, 0.2, 0.3), depth_scale=5.0, size_multiple=64, contrast=(3.0, 6.0, 9.0)
    )
    torch.save({'net': network.state_dict(), 'convention': asdict(stated)}, tmp_path / 'a.pt')
    load_weights(network, tmp_path / 'a.pt')
    assert network.convention == stated
    for bad in (
        {'depth_scael': 1},
        {'std': (0.1, 0.0, 0.2)},
        {'mean': 3},
        {'depth_scale': -1},
        {'contrast': (6.0,)},
    ):
        torch.save({'net': network.state_dict(), 'convention': bad}, tmp_path / 'b.pt')
        with pytest.raises(ValueError, match=r'b\.pt: convention'):
            load_weights(network, tmp_path / 'b.pt')
    assert network.convention == stated


def _archive(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()
