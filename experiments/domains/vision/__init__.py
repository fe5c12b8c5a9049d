"""Image classifiers: sets of images and their split."""
