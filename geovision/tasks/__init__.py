"""Tasks, one file each, which contain only data: `TASK` and `MODELS`."""
