"""The documentation says what the code says."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_every_parameter_is_documented_as_it_is_declared() -> None:
    from dmd3c_ros import completion_node, kitti_player, sim_player
    from dmd3c_ros.node.settings import PlayerSettings
    from dmd3c_ros.parameters import parameter_table

    page = (ROOT / 'docs/topics.md').read_text()
    for groups in (
        completion_node.PARAMETER_GROUPS,
        kitti_player.PARAMETER_GROUPS,
        sim_player.PARAMETER_GROUPS,
        (('', PlayerSettings),),
    ):
        assert parameter_table(groups) in page, 'python -m dmd3c_ros.parameters --tables'


def test_every_output_topic_is_documented() -> None:
    from dmd3c_ros.node import inputs, outputs

    page = (ROOT / 'docs/topics.md').read_text()
    topics = [*inputs.TOPICS, *outputs.TOPICS]
    assert len(topics) >= 9
    for topic in topics:
        assert f'| `{topic}` |' in page


@pytest.mark.parametrize(
    'page', [ROOT / 'README.md', *ROOT.glob('docs/*.md')], ids=lambda page: page.name
)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for target in re.findall(r'\]\(([^)#]+)', page.read_text()):
        if '://' not in target:
            assert (page.parent / target).exists(), f'{page.name}: no {target}'
