"""Clouds in, arrays out, and back."""

import sys

import numpy as np
import pytest
from sensor_msgs.msg import PointCloud2, PointField
from sensor_msgs_py import point_cloud2
from std_msgs.msg import Header

XYZ = np.array([(0, 1, 2), (3, np.nan, 5), (6, 7, 8), (9, 10, 11)], dtype=np.float32)


def field(name, offset, datatype=PointField.FLOAT32, count=1):
    return PointField(name=name, offset=offset, datatype=datatype, count=count)


def mixed_cloud(big_endian=False):
    """x (float32), intensity (float64), ring (uint16), 2 bytes of padding."""
    order = '>' if big_endian else '<'
    dtype = np.dtype(
        {
            'names': ['x', 'intensity', 'ring'],
            'formats': [f'{order}f4', f'{order}f8', f'{order}u2'],
            'offsets': [0, 4, 12],
            'itemsize': 16,
        }
    )
    points = np.zeros(3, dtype=dtype)
    points['x'] = 1.5, -2.5, 3.5
    points['intensity'] = 0.1, 0.2, 0.3
    points['ring'] = 1, 256, 63
    cloud = PointCloud2(
        height=1,
        width=3,
        is_bigendian=big_endian,
        fields=[
            field('x', 0),
            field('intensity', 4, PointField.FLOAT64),
            field('ring', 12, PointField.UINT16),
        ],
        point_step=16,
        row_step=48,
        data=points.tobytes(),
    )
    return cloud, points


def test_xyz_cloud_survives_the_round_trip():
    cloud = point_cloud2.create_cloud_xyz32(Header(frame_id='lidar'), XYZ)
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step) == (1, 4, 12, 48)
    assert cloud.header.frame_id == 'lidar' and not cloud.is_dense
    np.testing.assert_array_equal(point_cloud2.read_points_numpy(cloud), XYZ)


def test_a_list_of_tuples_gives_the_same_cloud_as_an_array():
    from_list = point_cloud2.create_cloud_xyz32(Header(), [tuple(p) for p in XYZ.tolist()])
    assert from_list == point_cloud2.create_cloud_xyz32(Header(), XYZ)


def test_an_empty_cloud_is_a_cloud():
    cloud = point_cloud2.create_cloud_xyz32(Header(), np.zeros((0, 3), dtype=np.float32))
    assert cloud.width == 0 and len(cloud.data) == 0
    assert point_cloud2.read_points_numpy(cloud).shape == (0, 3)


def test_nan_points_are_left_out_on_demand_unless_the_cloud_is_dense():
    cloud = point_cloud2.create_cloud_xyz32(Header(), XYZ)
    assert len(point_cloud2.read_points(cloud, skip_nans=True)) == 3
    assert len(point_cloud2.read_points(cloud, ['x', 'z'], skip_nans=True)) == 4
    cloud.is_dense = True
    assert len(point_cloud2.read_points(cloud, skip_nans=True)) == 4


@pytest.mark.parametrize('big_endian', [False, True])
def test_mixed_types_are_read_in_either_byte_order_and_the_message_stays_as_it_is(big_endian):
    cloud, points = mixed_cloud(big_endian)
    before = bytes(cloud.data)
    read = point_cloud2.read_points(cloud)
    for name in points.dtype.names:
        np.testing.assert_array_equal(read[name], points[name])
        assert read[name].dtype.isnative
    assert bytes(cloud.data) == before


@pytest.mark.skipif(sys.byteorder != 'little', reason='the message is in little-endian order')
def test_native_byte_order_is_read_without_a_copy():
    cloud, _ = mixed_cloud()
    point_cloud2.read_points(cloud)['ring'][1] = 7
    assert point_cloud2.read_points(cloud)['ring'][1] == 7


def test_a_plain_array_needs_one_datatype():
    cloud, points = mixed_cloud()
    with pytest.raises(AssertionError, match='one datatype'):
        point_cloud2.read_points_numpy(cloud)
    read = point_cloud2.read_points_numpy(cloud, field_names=['x'])
    np.testing.assert_array_equal(read[:, 0], points['x'])


def test_an_unknown_field_is_named():
    cloud, _ = mixed_cloud()
    with pytest.raises(AssertionError, match='intensities'):
        point_cloud2.read_points(cloud, field_names=['intensities'])


def test_points_are_picked_by_number():
    cloud, points = mixed_cloud()
    for wanted in ([2, 0], np.array([2, 0]), iter([2, 0])):
        read = point_cloud2.read_points(cloud, uvs=wanted)
        np.testing.assert_array_equal(read['ring'], points['ring'][[2, 0]])


def test_named_tuples_carry_the_fields():
    cloud, _ = mixed_cloud()
    points = point_cloud2.read_points_list(cloud, ['ring', 'x'])
    assert points[1]._fields == ('ring', 'x')
    assert (points[1].ring, points[1].x) == (256, -2.5)


def test_repeated_and_nameless_fields_get_names():
    dtype = point_cloud2.dtype_from_fields(
        [field('normal', 0, count=3), field('', 12), field('flag', 16, PointField.UINT8)], 20
    )
    assert dtype.names == ('normal_0', 'normal_1', 'normal_2', 'unnamed_field_1', 'flag')
    assert [dtype.fields[n][1] for n in dtype.names] == [0, 4, 8, 12, 16]
    assert dtype.itemsize == 20


@pytest.mark.parametrize(
    'fields', [[field('x', 0, count=0)], [field('x', 0), field('x', 4)]], ids=['count 0', 'twice']
)
def test_senseless_fields_are_refused(fields):
    with pytest.raises(AssertionError):
        point_cloud2.dtype_from_fields(fields)


def test_an_organised_cloud_keeps_its_shape_on_demand():
    grid = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    cloud = point_cloud2.create_cloud_xyz32(Header(), grid)
    assert (cloud.width, cloud.height) == (4, 2)
    np.testing.assert_array_equal(point_cloud2.read_points_numpy(cloud), grid.reshape(-1, 3))
    shaped = point_cloud2.read_points_numpy(cloud, reshape_organized_cloud=True)
    np.testing.assert_array_equal(shaped, grid)


def test_point_step_pads_a_point():
    fields = [field('x', 0), field('y', 4)]
    cloud = point_cloud2.create_cloud(Header(), fields, XYZ[:, :2], point_step=16)
    assert (cloud.point_step, cloud.row_step, len(cloud.data)) == (16, 64, 64)
    np.testing.assert_array_equal(point_cloud2.read_points_numpy(cloud), XYZ[:, :2])


def test_an_array_that_does_not_fit_the_fields_is_refused():
    _, points = mixed_cloud()
    with pytest.raises(AssertionError, match='expected points of'):
        point_cloud2.create_cloud(Header(), [field('x', 0)], points)
