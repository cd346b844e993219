"""Training, evaluating and exporting the networks of ScaleEquivSegLib with PyTorch Lightning and MONAI."""
