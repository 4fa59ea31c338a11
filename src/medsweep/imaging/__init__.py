"""One file → one pixel array, the same for prepare and for the deployed predictor."""
