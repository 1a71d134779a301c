"""What foreign log lines mean: their formats, and which of them belong together. No I/O."""
