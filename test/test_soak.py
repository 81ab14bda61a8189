"""A short soak of the node in a process of its own; `dmd3c bench soak` is the long one."""

import pytest

from dmd3c_ros.benchmarks.soak.config import SoakConfig
from dmd3c_ros.benchmarks.soak.driver import soak
from dmd3c_ros.demo import DemoError


def test_every_good_frame_is_answered_between_all_faults_and_memory_stays_flat(tmp_path):
    # More of each fault than in the long run, so that all of them come; with this seed several
    # garbled images and clouds, of which a busy node may skip some for newer ones.
    config = SoakConfig(
        frames=200,
        seed=1,
        garbage=0.3,
        stamps=0.05,
        jump=0.05,
        restart=0.01,
        burst=0.03,
        slow=0.03,
    )
    seen = []
    report = soak(config, tmp_path, seen.append)
    log = (tmp_path / 'completion_node.log').read_text()
    assert report.answered == report.frames == 200, log
    assert seen[-1] == 200
    assert report.faults.keys() == {'garbage', 'stamps', 'jump', 'restart', 'burst', 'slow'}
    # A frame's messages have 70 kB: a leak of one a frame would be 13 MB.
    assert report.growth_bytes() < 9e6, report.to_text()
    assert report.at(1.0).threads <= report.at(0.1).threads + 2
    assert report.at(1.0).files <= report.at(0.1).files + 5
    assert '200 of 200 frames answered' in report.to_text()
    assert 'Traceback' not in log
    assert 'points: expected' in log and 'image: expected' in log


def test_a_node_that_cannot_start_ends_the_soak(tmp_path):
    with pytest.raises(DemoError, match='no weights come with the package'):
        soak(SoakConfig(frames=1, model='bpnet'), tmp_path)
