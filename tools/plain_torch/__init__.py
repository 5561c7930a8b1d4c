"""Plain PyTorch transcriptions: the peers of the speed benchmark."""
