"""What every part may use: errors, whole files, processes, the camera's program, contact sheets."""
