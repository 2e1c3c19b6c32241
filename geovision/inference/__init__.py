"""Models over more than fits into one call: archives of frames."""

from geovision.inference.archive import Progress, Summary, archive
from geovision.inference.engine import Workers
from geovision.inference.rows import Reading
from geovision.inference.table import open_table, read_table

__all__ = ["Progress", "Reading", "Summary", "Workers", "archive", "open_table", "read_table"]
