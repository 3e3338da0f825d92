"""What a pretrained network says of images, and how well; for `experiments.evaluate` and `experiments.embed`."""
