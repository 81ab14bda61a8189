"""Depth Anything V2's parameters by the names of the transformers library, and back.

Both releases of the weights hold the same numbers: the authors' files join query, key and value in
one matrix, and count the decoder's fusions from the finest level, the library's from the coarsest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# Pairs of (authors', library's) beginnings of names; longer ones come first.
_STEMS = (
    ('pretrained.cls_token', 'backbone.embeddings.cls_token'),
    ('pretrained.mask_token', 'backbone.embeddings.mask_token'),
    ('pretrained.pos_embed', 'backbone.embeddings.position_embeddings'),
    ('pretrained.patch_embed.proj', 'backbone.embeddings.patch_embeddings.projection'),
    ('pretrained.norm', 'backbone.layernorm'),
    *(
        (f'depth_head.projects.{i}', f'neck.reassemble_stage.layers.{i}.projection')
        for i in range(4)
    ),
    *(
        (f'depth_head.resize_layers.{i}', f'neck.reassemble_stage.layers.{i}.resize')
        for i in (0, 1, 3)
    ),
    *((f'depth_head.scratch.layer{i + 1}_rn', f'neck.convs.{i}') for i in range(4)),
    *(
        (
            f'depth_head.scratch.refinenet{4 - i}.{own}',
            f'neck.fusion_stage.layers.{i}.{theirs}',
        )
        for i in range(4)
        for own, theirs in (
            ('out_conv', 'projection'),
            *(
                (f'resConfUnit{j}.conv{k}', f'residual_layer{j}.convolution{k}')
                for j in (1, 2)
                for k in (1, 2)
            ),
        )
    ),
    ('depth_head.scratch.output_conv1', 'head.conv1'),
    ('depth_head.scratch.output_conv2.0', 'head.conv2'),
    ('depth_head.scratch.output_conv2.2', 'head.conv3'),
)
_BLOCK = (
    ('norm1', 'norm1'),
    ('norm2', 'norm2'),
    ('attn.proj', 'attention.output.dense'),
    ('ls1.gamma', 'layer_scale1.lambda1'),
    ('ls2.gamma', 'layer_scale2.lambda1'),
    ('mlp.fc1', 'mlp.fc1'),
    ('mlp.fc2', 'mlp.fc2'),
)
_QKV = tuple(f'attention.attention.{part}' for part in ('query', 'key', 'value'))
# Since version 5 the library calls them so in memory, but not in its files.
_RENAMED = {
    'attention.q_proj': _QKV[0],
    'attention.k_proj': _QKV[1],
    'attention.v_proj': _QKV[2],
    'attention.o_proj': 'attention.output.dense',
}
_LAYER = re.compile(r'backbone\.encoder\.layer\.(\d+)\.(.+)')
_OWN_LAYER = re.compile(r'pretrained\.blocks\.(\d+)\.(.+)')


def is_transformers(state: Mapping[str, Tensor]) -> bool:
    """Whether parameters bear the library's names."""
    return 'backbone.embeddings.cls_token' in state


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' names for parameters that bear the library's.

    Raises ValueError that names a parameter that Depth Anything does not have.
    """
    result: dict[str, Tensor] = {}
    joined: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        layer = _LAYER.fullmatch(name)
        if layer is None:
            result[_renamed(name, [(b, a) for a, b in _STEMS])] = tensor
            continue
        number, rest = layer.groups()
        for new, old in _RENAMED.items():
            rest = rest.replace(new, old)
        part, _, kind = rest.rpartition('.')
        if part in _QKV:
            joined.setdefault(f'pretrained.blocks.{number}.attn.qkv.{kind}', {})[part] = tensor
            continue
        own = _renamed(rest, [(b, a) for a, b in _BLOCK])
        result[f'pretrained.blocks.{number}.{own}'] = tensor
    for name, parts in joined.items():
        if len(parts) != 3:
            raise ValueError(f'{name}: expected query, key and value, got {", ".join(parts)}')
        result[name] = torch.cat([parts[part] for part in _QKV])
    return result


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names of the library's files for parameters that bear the authors'.

    Raises ValueError that names a parameter that Depth Anything does not have.
    """
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        layer = _OWN_LAYER.fullmatch(name)
        if layer is None:
            result[_renamed(name, _STEMS)] = tensor
            continue
        number, rest = layer.groups()
        stem = f'backbone.encoder.layer.{number}'
        if rest.startswith('attn.qkv.'):
            kind = rest.removeprefix('attn.qkv.')
            for part, values in zip(_QKV, tensor.chunk(3), strict=True):
                result[f'{stem}.{part}.{kind}'] = values.clone()
            continue
        result[f'{stem}.{_renamed(rest, _BLOCK)}'] = tensor
    return result


def _renamed(name: str, stems: object) -> str:
    for old, new in stems:
        if name == old or name.startswith(old + '.'):
            return new + name[len(old) :]
    raise ValueError(f'{name}: expected a parameter of Depth Anything V2')
