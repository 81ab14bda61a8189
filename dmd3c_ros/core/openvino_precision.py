"""What OpenVINO computes in float32 even where the rest of a network is bfloat16."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

from torch import nn

# How a model file says so of a layer. The CPU plugin of OpenVINO 2026.4 asks for float16 only.
_KEPT = {'name': 'DisablePrecisionConversion', 'version': '0', 'value': 'dynamic:bf16,f16'}


def keep_prior(openvino, core, model, module: nn.Module, inputs: tuple[str, ...]) -> Any:
    """The model with all that comes of some of its inputs before a learned layer in float32.

    What a network is given of the points are moments of their coordinates and differences of
    depths. Rounded to 8 bits, slopes come out wrong, and so does what is extrapolated with them:
    in a room depth was off by 0.17 instead of 0.11 m on average. Autocast leaves these parts of a
    network alone in PyTorch.

    openvino, core: the package and its Core. model: converted from ``module``. inputs: names.
    Returns another model: only a file can say this.
    """
    names = _before_learned(model, module, inputs)
    with TemporaryDirectory() as folder:
        path = Path(folder, 'model.xml')
        openvino.save_model(model, path, compress_to_fp16=False)
        tree = ElementTree.parse(path)
        for layer in tree.iter('layer'):
            if layer.get('name') in names:
                info = layer.find('rt_info')
                info = ElementTree.SubElement(layer, 'rt_info') if info is None else info
                ElementTree.SubElement(info, 'attribute', _KEPT)
        text = ElementTree.tostring(tree.getroot())
        return core.read_model(text, path.with_suffix('.bin').read_bytes())


def _before_learned(model, module: nn.Module, inputs: tuple[str, ...]) -> set[str]:
    """Names of the operations on what comes of the inputs, as long as nothing learned is in it."""
    learned = {
        f'__module.{name}'
        for name, part in module.named_modules()
        if any(True for _ in part.parameters(recurse=False))
    }
    found: set[str] = set()
    beyond: set[str] = set()
    for operation in model.get_ordered_ops():
        name = operation.get_friendly_name()
        sources = {
            source.get_source_output().get_node().get_friendly_name()
            for source in operation.inputs()
        }
        if name.partition('/')[0] in learned or sources & beyond:
            beyond.add(name)
        elif sources & found or not operation.get_output_tensor(0).names.isdisjoint(inputs):
            found.add(name)
    return found
