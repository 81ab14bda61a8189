"""The documentation says what the code says."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_every_parameter_is_documented_as_it_is_declared() -> None:
    script = runpy.run_path(str(ROOT / 'docs/write_parameters.py'))
    page = (ROOT / 'docs/topics.md').read_text()
    assert len(script['TABLES']) >= 6
    for groups in script['TABLES']:
        table = script['parameter_table'](groups)
        assert table in page, 'python docs/write_parameters.py --tables'


def test_every_output_topic_is_documented() -> None:
    from dmd3c_ros.node import inputs
    from dmd3c_ros.pipeline.outputs import OUTPUTS

    page = (ROOT / 'docs/topics.md').read_text()
    topics = [*inputs.TOPICS, *OUTPUTS]
    assert len(topics) >= 9
    for topic in topics:
        assert f'| `{topic}` |' in page


@pytest.mark.parametrize(
    'page', [ROOT / 'README.md', *ROOT.glob('docs/*.md')], ids=lambda page: page.name
)
def test_links_and_images_lead_somewhere(page: Path) -> None:
    for target in re.findall(r'\]\(([^)#]+)', page.read_text()):
        if '://' not in target:
            assert (page.parent / target).exists(), f'{page.name}: no {target}'


def training_commands() -> list[str]:
    """Command lines of both stages in the documentation and in the configurations."""
    found = []
    for page in (*ROOT.glob('docs/*.md'), *ROOT.glob('training/config/**/*.yaml')):
        pattern = r'-m (training\.stage[12] --config training/config/[^`\n#]+)'
        found += re.findall(pattern, page.read_text())
    return sorted({command.strip() for command in found})


@pytest.mark.parametrize('command', training_commands())
def test_every_training_command_has_settings_that_exist(command: str) -> None:
    from training.engine.settings import TrainConfig
    from training.settings import load

    module, _, file, *overrides = command.split()
    config = load(TrainConfig, ROOT / file, overrides[1:])
    changed = dict(item.split('=', 1) for item in overrides[1:])
    if 'authors' not in file:
        assert module[-1] == file.split('stage')[1][0]
    assert config.initial_weights == changed.get('initial_weights', config.initial_weights)
    assert config.loss.recipe == changed.get('loss.recipe', config.loss.recipe)


def test_every_row_of_the_papers_tables_has_a_command() -> None:
    commands = training_commands()
    for network in ('bpnet', 'lrru', 'completionformer'):
        assert f'training.stage2 --config training/config/stage2_{network}.yaml' in commands
        authors = f'training.stage2 --config training/config/authors/{network}_kitti.yaml'
        assert authors in commands
    assert any('stage2_bpnet.yaml' in c and 'initial_weights=' in c for c in commands)
    assert any('loss.recipe=l1' in c and 'initial_weights' not in c for c in commands)
    assert 'training.stage2 --config training/config/stage2_bpnet_nyu.yaml' in commands


def test_the_fidelity_page_has_no_empty_cell_and_names_files_that_exist() -> None:
    page = (ROOT / 'docs/fidelity.md').read_text()
    rows = [line for line in page.splitlines() if line.startswith('|')]
    assert len(rows) > 80
    assert [row for row in rows if any(not cell.strip() for cell in row[1:-1].split('|'))] == []
    named = set(re.findall(r'`((?:[a-z_0-9]+/)+[a-z_0-9]+\.(?:py|yaml))`', page))
    places = [ROOT, ROOT / 'training', ROOT / 'training/config', ROOT / 'dmd3c_ros']
    assert len(named) > 20
    assert [n for n in named if not any((place / n).is_file() for place in places)] == []
    for number in range(1, 9):
        assert f'Eq. {number}' in page


def test_every_recipe_is_documented() -> None:
    from training.losses import RECIPES

    page = (ROOT / 'docs/training.md').read_text()
    assert [name for name in RECIPES if f'`{name}`' not in page] == []
