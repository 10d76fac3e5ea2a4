"""Where runs are tracked: loggers of Lightning that keep pictures, tables and artifacts too."""
