"""One file a task; the file's name is the task's name. Each holds `TASK` and `MODELS`, data only."""
