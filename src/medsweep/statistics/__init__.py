"""Arrays in, numbers out: metrics, intervals, operating points, calibration, curves. Reads no file, knows no model."""
