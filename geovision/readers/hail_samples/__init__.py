"""Reader and writer of hail samples in NetCDF or Zarr.

A file or store contains one sample, with all sources on one grid and clock. `write_sample` and `read_sample`
write and read complete samples. `read_header` and `read_context` read the metadata, time and position without
the arrays. The file name contains time and position, as in ``hail_20230617T083000_N3050_E11200.nc``: the time
of the last window, and the center of the grid in hundredths of a degree.
"""

from geovision.readers.hail_samples.reader import (
    expand,
    read_context,
    read_header,
    read_input,
    read_sample,
    to_arrays,
)
from geovision.readers.hail_samples.schema import (
    CHANNELS,
    LEVELS,
    NO_ECHO_DBZ,
    TIMED_SOURCES,
    HailSample,
    SampleName,
    TimedSource,
    check_shapes,
    sample_files,
    terrain_class,
)
from geovision.readers.hail_samples.writer import write_sample

__all__ = [
    "CHANNELS",
    "LEVELS",
    "NO_ECHO_DBZ",
    "TIMED_SOURCES",
    "HailSample",
    "SampleName",
    "TimedSource",
    "check_shapes",
    "expand",
    "read_context",
    "read_header",
    "read_input",
    "read_sample",
    "sample_files",
    "terrain_class",
    "to_arrays",
    "write_sample",
]
