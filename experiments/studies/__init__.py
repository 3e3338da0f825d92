"""Table 1 of the paper, measured: rows and controls, runs side by side, intervals, the record of what came out."""
