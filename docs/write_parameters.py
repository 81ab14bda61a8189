"""What the repository says about parameters, written from the nodes themselves.

python docs/write_parameters.py > config/completion.yaml
python docs/write_parameters.py --tables    # those of docs/topics.md
"""

from __future__ import annotations

import sys
import textwrap

from dmd3c_ros import completion_node
from dmd3c_ros.node import droid_feeder
from dmd3c_ros.node.parameters import Groups, entries
from dmd3c_ros.node.players import bag_player, kitti_player, sim_player
from dmd3c_ros.node.players.settings import PlayerSettings

TABLES = (
    completion_node.PARAMETER_GROUPS,
    kitti_player.PARAMETER_GROUPS,
    sim_player.PARAMETER_GROUPS,
    (('', PlayerSettings),),
    droid_feeder.PARAMETER_GROUPS,
    bag_player.PARAMETER_GROUPS,
)


def parameter_file(node_name: str, groups: Groups) -> str:
    """A ROS parameter file that sets every parameter to its default, with the meanings.

    What has no default a file could hold (an empty list) is commented out.
    """
    lines = [f'/**/{node_name}:', '  ros__parameters:']
    for name, entry in entries(groups):
        comment = textwrap.wrap(entry.meaning, 90)
        lines += [f'    # {line}' for line in comment]
        value = entry.item.default
        if isinstance(value, tuple):
            lines.append(f'    # {name}: []')
        else:
            text = f"'{value}'" if isinstance(value, str) else str(value).lower()
            lines.append(f'    {name}: {text}')
    return '\n'.join(lines) + '\n'


def parameter_table(groups: Groups) -> str:
    """A Markdown table of every parameter: type, default, range and meaning."""
    lines = ['| parameter | type | default | range | meaning |', '| --- | --- | --- | --- | --- |']
    for name, entry in entries(groups):
        default = entry.item.default
        kind = {bool: 'bool', int: 'int', float: 'double', str: 'string', tuple: 'double[]'}
        shown = str(default).lower() if isinstance(default, bool) else default
        shown = 'empty' if shown in ('', ()) else shown
        limits = ' to '.join(map(str, entry.item.metadata.get('range', ())))
        cells = (f'`{name}`', kind[type(default)], f'`{shown}`', limits, entry.meaning)
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    if sys.argv[1:] == ['--tables']:
        print('\n\n'.join(map(parameter_table, TABLES)))
    else:
        print(parameter_file('completion_node', completion_node.PARAMETER_GROUPS), end='')
