"""sensor_msgs/PointCloud2 <-> NumPy, with the names, arguments and results of `sensor_msgs_py`.

As upstream, the data are taken to be contiguous: a `row_step` with padding at the end of a row is
not looked at, and the two-dimensional form of an organised cloud is indexed [width, height].
"""

import array
import sys
from collections import namedtuple
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.lib.recfunctions import structured_to_unstructured, unstructured_to_structured
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

_DATATYPES = {
    PointField.INT8: np.dtype(np.int8),
    PointField.UINT8: np.dtype(np.uint8),
    PointField.INT16: np.dtype(np.int16),
    PointField.UINT16: np.dtype(np.uint16),
    PointField.INT32: np.dtype(np.int32),
    PointField.UINT32: np.dtype(np.uint32),
    PointField.FLOAT32: np.dtype(np.float32),
    PointField.FLOAT64: np.dtype(np.float64),
}

DUMMY_FIELD_PREFIX = 'unnamed_field'
_NATIVE_BIG_ENDIAN = sys.byteorder != 'little'


def read_points(
    cloud: PointCloud2,
    field_names: Iterable[str] | None = None,
    skip_nans: bool = False,
    uvs: Iterable | None = None,
    reshape_organized_cloud: bool = False,
) -> np.ndarray:
    """Points as a structured array (N,), or (width, height) of an organised cloud when asked.

    A cloud in the machine's byte order is not copied: the array shares the message's memory.
    `field_names` selects, `skip_nans` leaves out every point with a NaN in a selected field
    (unless the cloud is marked dense), `uvs` picks points by number.
    """
    assert isinstance(cloud, PointCloud2), f'expected a PointCloud2, got {type(cloud).__name__}'
    dtype = dtype_from_fields(cloud.fields, point_step=cloud.point_step)
    foreign = bool(cloud.is_bigendian) != _NATIVE_BIG_ENDIAN
    points = np.ndarray(
        shape=(cloud.width * cloud.height,),
        dtype=dtype.newbyteorder() if foreign else dtype,
        buffer=cloud.data,
    )
    if foreign:
        points = points.astype(dtype)
    if field_names is not None:
        points = points[_checked_names(field_names, points.dtype.names)]
    if skip_nans and not cloud.is_dense:
        invalid = np.zeros(len(points), dtype=bool)
        for name in points.dtype.names:
            invalid |= np.isnan(points[name])
        points = points[~invalid]
    if uvs is not None:
        points = points[uvs if isinstance(uvs, np.ndarray) else np.fromiter(uvs, int)]
    if reshape_organized_cloud and cloud.height > 1:
        points = points.reshape(cloud.width, cloud.height)
    return points


def read_points_numpy(
    cloud: PointCloud2,
    field_names: Iterable[str] | None = None,
    skip_nans: bool = False,
    uvs: Iterable | None = None,
    reshape_organized_cloud: bool = False,
) -> np.ndarray:
    """Points as a plain array (N, fields), or (width, height, fields); one data type only.

    Raises AssertionError where a selected field differs in type from the cloud's first field
    (selected or not, as upstream). The other arguments are those of `read_points`.
    """
    names = None if field_names is None else list(field_names)
    selected = [f for f in cloud.fields[1:] if names is None or f.name in names]
    types = {f.datatype for f in [*cloud.fields[:1], *selected]}
    assert len(types) <= 1, f'expected one datatype, got {sorted(types)}: use read_points'
    points = read_points(cloud, names, skip_nans, uvs, reshape_organized_cloud)
    return structured_to_unstructured(points)


def read_points_list(
    cloud: PointCloud2,
    field_names: Iterable[str] | None = None,
    skip_nans: bool = False,
    uvs: Iterable | None = None,
) -> list[NamedTuple]:
    """Points as a list of named tuples; slow, for small clouds. Arguments as `read_points`."""
    assert isinstance(cloud, PointCloud2), f'expected a PointCloud2, got {type(cloud).__name__}'
    names = [f.name for f in cloud.fields] if field_names is None else list(field_names)
    point_type = namedtuple('Point', names)
    return [point_type._make(point) for point in read_points(cloud, names, skip_nans, uvs)]


def dtype_from_fields(fields: Iterable[PointField], point_step: int | None = None) -> np.dtype:
    """Structured dtype of a point, in the machine's byte order.

    A field with count > 1 becomes `name_0`, `name_1`, ...; a field without a name
    `unnamed_field_<its number>`. `point_step` (bytes) allows for padding after the last field.
    """
    names, formats, offsets = [], [], []
    for number, field in enumerate(fields):
        assert field.count > 0, f"field '{field.name}': expected a count of 1 or more, got 0"
        datatype = _DATATYPES[field.datatype]
        name = field.name or f'{DUMMY_FIELD_PREFIX}_{number}'
        for element in range(field.count):
            names.append(name if field.count == 1 else f'{name}_{element}')
            formats.append(datatype)
            offsets.append(field.offset + element * datatype.itemsize)
    assert len(set(names)) == len(names), f'expected different field names, got {names}'
    layout = {'names': names, 'formats': formats, 'offsets': offsets}
    if point_step is not None:
        layout['itemsize'] = point_step
    return np.dtype(layout)


def create_cloud(
    header: Header,
    fields: Iterable[PointField],
    points: Iterable,
    point_step: int | None = None,
) -> PointCloud2:
    """Cloud from points: a structured array, a plain array (..., fields) or a list of tuples.

    A second dimension makes the cloud organised ([width, height], as in `read_points`). Raises
    AssertionError where the array does not fit the fields.
    """
    fields = list(fields)
    points = _structured(points, fields, dtype_from_fields(fields, point_step))
    assert points.ndim <= 2, f'expected points in one or two dimensions, got {points.ndim}'
    width, height = points.shape if points.ndim == 2 else (len(points), 1)
    cloud = PointCloud2(
        header=header,
        height=height,
        width=width,
        is_dense=False,
        is_bigendian=_NATIVE_BIG_ENDIAN,
        fields=fields,
        point_step=points.dtype.itemsize,
        row_step=points.dtype.itemsize * width,
    )
    # The setter takes an array.array as it is; anything else is checked byte by byte.
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(points).reshape(-1).view(np.uint8))
    cloud.data = data
    return cloud


def create_cloud_xyz32(header: Header, points: Iterable) -> PointCloud2:
    """Cloud with float32 fields x, y, z from points (N, 3), or (width, height, 3)."""
    fields = [
        PointField(name=name, offset=4 * number, datatype=PointField.FLOAT32, count=1)
        for number, name in enumerate('xyz')
    ]
    return create_cloud(header, fields, points)


def _checked_names(wanted: Iterable[str], present: tuple[str, ...]) -> list[str]:
    wanted = list(wanted)
    missing = [name for name in wanted if name not in present]
    assert not missing, f'expected fields out of {list(present)}, got {missing}'
    return wanted


def _structured(points: Iterable, fields: list[PointField], dtype: np.dtype) -> np.ndarray:
    if not isinstance(points, np.ndarray):
        return np.array([tuple(point) for point in points], dtype=dtype)
    if points.dtype.names is not None:
        assert points.dtype == dtype, f'expected points of {dtype}, got {points.dtype}'
        return points
    types = {field.datatype for field in fields}
    assert len(types) == 1, f'a plain array needs fields of one datatype, got {sorted(types)}'
    return unstructured_to_structured(points, dtype=dtype)
