"""TorchX components and the demo. Nothing of ours is imported here: both name command lines."""
