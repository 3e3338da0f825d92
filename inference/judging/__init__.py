"""How a fitted pair is judged: neighbours, probe, collapse, calibration, uncertainty, resampling."""
